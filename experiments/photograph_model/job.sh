#!/bin/sh
# Run the training in the background at the lowest priority: start, stop or status.
#
#     PYTHON=.venv/bin/python experiments/photograph_model/job.sh start [options of train.py]
set -eu
cd "$(dirname "$0")/../.."
python="${PYTHON:-.venv/bin/python}"
folder=.cache/photograph_model
pid_file="$folder/train.pid"
log="$folder/train.log"
mkdir -p "$folder"

running() {
    [ -f "$pid_file" ] && kill -0 "$(cat "$pid_file")" 2>/dev/null
}

case "${1:-}" in
start)
    shift
    if running; then
        echo "already running as $(cat "$pid_file")"
        exit 1
    fi
    # glibc keeps freed memory; threads that wait sleep, because other work shares the cores
    export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=20000000000 OMP_WAIT_POLICY=passive
    setsid nohup nice -n 19 "$python" experiments/photograph_model/train.py "$@" \
        >>"$log" 2>&1 </dev/null &
    echo $! >"$pid_file"
    echo "started as $(cat "$pid_file"), log in $log"
    ;;
stop)
    if running; then
        kill -TERM "$(cat "$pid_file")"
        while running; do sleep 1; done
    fi
    rm -f "$pid_file"
    tail -n 1 "$log"
    ;;
status)
    if running; then echo "runs as $(cat "$pid_file")"; else echo "does not run"; fi
    tail -n 3 "$log"
    ;;
*)
    echo "usage: $0 start|stop|status" >&2
    exit 2
    ;;
esac
