"""Ctrl-C ends the process, even in an operation that Python cannot interrupt."""

import signal
import subprocess
import sys
import threading

import pytest

from glocal.cli.interruption import TerminatedError, is_termination, prompt_interruption


@pytest.mark.parametrize(("name", "exit_code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_an_operation_that_does_not_end_is_left(name: str, exit_code: int) -> None:
    code = (
        "import ctypes, os, signal, threading\n"
        "from glocal.cli import interruption\n"
        "interruption.GRACE_S = 0.05\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's & ignores it
        "lock = ctypes.create_string_buffer(128)\n"  # a mutex of zeros is unlocked
        "lib = ctypes.CDLL(None)\n"
        "with interruption.prompt_interruption():\n"
        "    threading.Timer(0.05, os.kill, (os.getpid(), signal."
        f"{name})).start()\n"
        "    lib.pthread_mutex_lock(lock)\n"
        "    lib.pthread_mutex_lock(lock)\n"  # waits for ever, outside of Python
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert found.returncode == exit_code
    assert found.stderr.strip().startswith("interrupted: stopped at once; run the same command")


def test_an_interruption_in_python_is_an_exception() -> None:
    threads = threading.active_count()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's & ignores it
    try:
        with pytest.raises(KeyboardInterrupt), prompt_interruption():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert threading.active_count() == threads
    assert signal.set_wakeup_fd(-1) == -1


def test_the_end_of_the_process_is_an_interruption_too() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(TerminatedError), prompt_interruption():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_another_thread_watches_nothing() -> None:
    seen: list[bool] = []

    def run() -> None:
        with prompt_interruption():
            seen.append(True)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [True]


def test_what_led_to_an_end_is_known() -> None:
    def ended_by(error: BaseException) -> SystemExit:
        try:
            try:
                raise error
            except KeyboardInterrupt:
                raise SystemExit(130) from None  # as typer does
        except SystemExit as end:
            return end

    assert is_termination(TerminatedError())
    assert is_termination(ended_by(TerminatedError()))
    assert not is_termination(KeyboardInterrupt())
    assert not is_termination(ended_by(KeyboardInterrupt()))
    assert is_termination(SystemExit(143))
