"""Drive the parsers of headers by coverage, where Atheris is installed.

::

    pip install atheris
    PYTHONPATH=src:tests python tests/hostile/fuzz_headers.py [seconds]
"""

import sys
import tempfile
from pathlib import Path


def main(seconds: int) -> None:
    """Fuzz for so long; Atheris ends the process, with a status other than 0 at an error."""
    import atheris

    with atheris.instrument_imports(include=["glocal.images", "glocal.json_files"]):
        from hostile.campaign import KEPT
        from hostile.headers import PARSERS, check
        from hostile.seeds import _EXIF, image_seeds

    names = list(PARSERS)

    def one(data: bytes) -> None:
        if data:
            check(names[data[0] % len(names)], data[1:])

    corpus = Path(tempfile.mkdtemp())
    for name, data in {**image_seeds(), "exif": _EXIF}.items():
        for parser in range(len(names)):
            (corpus / f"{name}-{parser}").write_bytes(bytes([parser]) + data[:4096])
    KEPT.mkdir(parents=True, exist_ok=True)
    options = [f"-max_total_time={seconds}", "-rss_limit_mb=8000", f"-artifact_prefix={KEPT}/"]
    atheris.Setup([sys.argv[0], str(corpus), *options], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 60)
