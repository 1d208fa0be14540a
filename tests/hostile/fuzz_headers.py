"""Drive the parsers of headers by coverage, where Atheris is installed.

::

    pip install atheris
    PYTHONPATH=src:tests python tests/hostile/fuzz_headers.py [seconds]
"""

import importlib.util
import sys
import tempfile
from pathlib import Path

import pytest


def main(seconds: int) -> None:
    """Fuzz for so long; Atheris ends the process, with a status other than 0 at an error."""
    import atheris

    with atheris.instrument_imports(include=["glocal.images", "glocal.json_files"]):
        from hostile.headers import PARSERS, check
        from hostile.seeds import _EXIF, image_seeds

    names = list(PARSERS)

    def one(data: bytes) -> None:
        if data:
            check(names[data[0] % len(names)], data[1:])

    corpus = Path(tempfile.mkdtemp())
    for index, (name, data) in enumerate({**image_seeds(), "exif": _EXIF}.items()):
        for parser in range(len(names)):
            (corpus / f"{name}-{parser}").write_bytes(bytes([parser]) + data[:4096])
        assert index >= 0
    atheris.Setup(
        [sys.argv[0], str(corpus), f"-max_total_time={seconds}", "-rss_limit_mb=8000"], one
    )
    atheris.Fuzz()


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="Atheris is not installed")
def test_a_minute_of_fuzzing_finds_nothing():
    import os
    import subprocess

    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [sys.executable, __file__, "60"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 60)
