"""Read evaluations from the files that ``glocal evaluate`` writes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glocal.errors import ArgumentError
from glocal.json_files import JsonError, converted, parsed
from glocal.study.evaluation.records import Evaluation, Protocol, Record

__all__ = ["read_evaluation"]

_MOST_BYTES = 256 * 2**20  # some hundred bytes for each image and method


@dataclass(frozen=True)
class _Written:
    """What ``glocal evaluate --json`` prints."""

    protocol: Protocol
    records: list[dict[str, Any]]


def read_evaluation(path: Path) -> Evaluation:
    """Read an evaluation: records.jsonl, the folder that has it, or what `--json` printed.

    Its images are those that were measured; the log of an interrupted evaluation has fewer than
    `Protocol.image_count`.

    Raises:
        ArgumentError: the file cannot be read, or is none of these.
    """
    path = path / "records.jsonl" if path.is_dir() else path
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise JsonError(f"has more than {_MOST_BYTES} bytes")
        text = path.read_bytes()
        lines = text.splitlines()
        header = parsed(lines[0], dict[str, Any]) if lines[1:] and lines[0] != b"{" else {}
        if header.get("command") == "evaluate":
            header["data_sha256"] = ""  # each record has that of its image
            protocol = converted(header, Protocol, "", ignore_others=True)
            written = _Written(protocol, [parsed(line, dict[str, Any]) for line in lines[1:]])
        else:
            written = parsed(text, _Written, ignore_others=True)
        records = tuple(map(Record.from_dict, written.records))
    except OSError as error:
        raise ArgumentError(f"{path}: cannot be read ({error.strerror})") from None
    except (JsonError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise ArgumentError(
            f"{path}: is no result of glocal evaluate ({str(error)[:200]}); give the folder of "
            "--out, or what --json printed"
        ) from None
    images = tuple(dict.fromkeys(record.image for record in records))
    return Evaluation(written.protocol, images, records)
