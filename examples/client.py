"""Restore a photograph with a running `glocal serve`, from Python's standard library alone.

glocal serve &
python examples/client.py photo.jpg --way windows --strength 0.8
"""

import argparse
import json
import os
import secrets
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photo", type=Path)
    parser.add_argument("--server", default="http://localhost:8000")
    parser.add_argument("--model")
    parser.add_argument("--way", choices=["full", "windows", "crops", "stitch", "auto"])
    parser.add_argument("--strength", type=float)
    given = parser.parse_args()
    server = Server(given.server, os.environ.get("GLOCAL_TOKEN", ""))
    wanted = {"model": given.model, "way": given.way, "strength": given.strength}
    try:
        job = server.restore(given.photo, {k: v for k, v in wanted.items() if v is not None})
    except urllib.error.HTTPError as refusal:
        sys.exit(json.load(refusal)["detail"])
    for now in server.events(job["id"]):
        left = "" if now["left_s"] is None else f", {now['left_s']:.0f} s left"
        print(f"{now['state']} {now['stage']} {100 * now['share']:.0f} %{left}", file=sys.stderr)
        if now["state"] != "done" and now["error"]:
            sys.exit(now["error"])
    print(server.download(job["id"], given.photo.parent))


class Server:
    """The API of `glocal serve`."""

    def __init__(self, url: str, token: str = "") -> None:
        self._api = f"{url.rstrip('/')}/api/v1"
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def restore(self, photo: Path, options: dict[str, object]) -> dict[str, object]:
        """Send a photograph; return its job."""
        boundary = secrets.token_hex(16)
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in options.items()
        ]
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{photo.name}"'
        )
        body = "".join([*parts, head, "\r\n\r\n"]).encode()
        body += photo.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
        kind = f"multipart/form-data; boundary={boundary}"
        with self._open("/jobs", body, {"Content-Type": kind}) as answer:
            return json.load(answer)

    def events(self, job: object) -> Iterator[dict]:
        """Yield how far a job is, until it ends."""
        with self._open(f"/jobs/{job}/events") as lines:
            for line in lines:
                if line.startswith(b"data: "):
                    yield json.loads(line.removeprefix(b"data: "))

    def download(self, job: object, folder: Path) -> Path:
        """Write the result into a folder, under the server's name for it."""
        with self._open(f"/jobs/{job}/result") as answer:
            path = folder / Path(answer.headers.get_filename()).name
            path.write_bytes(answer.read())
        return path

    def _open(self, path: str, body: bytes | None = None, headers: dict[str, str] | None = None):
        request = urllib.request.Request(
            self._api + path, body, {**self._headers, **(headers or {})}
        )
        return urllib.request.urlopen(request)


if __name__ == "__main__":
    main()
