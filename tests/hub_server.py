"""A server of the part of the Hugging Face Hub's API that downloads need, in a thread."""

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

TOKEN = "hf_token_of_the_tests"
LARGE = 1024  # bytes from which a file lies elsewhere, as the Hub keeps large ones


@dataclass
class Repository:
    """Files by revision; a revision is a branch, whose commit follows from its name."""

    revisions: dict[str, dict[str, bytes]]
    access: str = "public"  # or "private", "gated"

    def find(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """The commit and the files of a branch or a commit."""
        for name, files in self.revisions.items():
            commit = hashlib.sha1(name.encode()).hexdigest()
            if revision in (name, commit):
                return commit, files
        return None


@dataclass
class HubServer:
    """The server; tests fill in its repositories, and read what was asked of it."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    stopped: bool = False
    tampered: bool = False  # large files come with another first byte

    def __enter__(self) -> "HubServer":
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )
        self._thread.start()
        port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{port}"
        self.elsewhere = f"http://localhost:{port}/elsewhere"  # another host, as on the Hub
        return self

    def __exit__(self, *problem: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Answer nothing from now on, on open connections either."""
        self.stopped = True
        self._server.shutdown()
        self._server.server_close()

    def add(self, name: str, files: dict[str, bytes], revision: str = "main") -> Repository:
        """Put files into a repository."""
        repository = self.repositories.setdefault(name, Repository({}))
        repository.revisions.setdefault(revision, {}).update(files)
        return repository

    def large_files(self) -> Iterator[tuple[str, bytes]]:
        """Names and contents of the files that lie elsewhere."""
        for repository in self.repositories.values():
            for files in repository.revisions.values():
                yield from ((name, each) for name, each in files.items() if len(each) >= LARGE)


def git_digest(content: bytes) -> str:
    """The digest that git gives a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _handler(hub: HubServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if hub.stopped:
                self.close_connection = True
                return
            hub.asked.append(f"{self.command} {self.path}")
            parts = unquote(self.path.partition("?")[0]).strip("/").split("/")
            if parts[0] == "elsewhere":
                self._elsewhere(parts[1])
            elif parts[:2] == ["api", "models"]:
                self._about("/".join(parts[2:4]), "/".join(parts[5:]) or "main")
            elif parts[2:3] == ["resolve"]:
                self._file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
            else:
                self._refuse(404, "", "no such page")

        do_HEAD = do_GET  # noqa: N815

        def _revision(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
            repository = hub.repositories.get(name)
            known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
            if repository is None or (repository.access == "private" and not known):
                self._refuse(401, "RepoNotFound" if known else "", "Repository not found")
            elif repository.access == "gated" and not known:
                self._refuse(403, "GatedRepo", "Access to this model is restricted")
            elif (found := repository.find(revision)) is None:
                self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            else:
                return found
            return None

        def _about(self, name: str, revision: str) -> None:
            found = self._revision(name, revision)
            if found:
                siblings = [{"rfilename": file} for file in sorted(found[1])]
                about = {"id": name, "modelId": name, "sha": found[0], "siblings": siblings}
                self._answer(200, json.dumps(about).encode(), {"Content-Type": "application/json"})

        def _file(self, name: str, revision: str, file: str) -> None:
            found = self._revision(name, revision)
            if found is None:
                return
            content = found[1].get(file)
            if content is None:
                self._refuse(404, "EntryNotFound", f"Entry not found: {file}")
                return
            headers = {"X-Repo-Commit": found[0], "ETag": f'"{git_digest(content)}"'}
            if len(content) < LARGE:
                self._note(file)
                self._answer(200, content, headers)
                return
            digest = hashlib.sha256(content).hexdigest()
            headers |= {
                "X-Linked-Etag": f'"{digest}"',
                "X-Linked-Size": str(len(content)),
                "Location": f"{hub.elsewhere}/{digest}",
            }
            self._answer(302, b"", headers)

        def _elsewhere(self, digest: str) -> None:
            for name, content in hub.large_files():
                if hashlib.sha256(content).hexdigest() == digest:
                    self._note(name)
                    first = bytes([content[0] ^ 1]) if hub.tampered else content[:1]
                    self._answer(200, first + content[1:], {})
                    return
            self._refuse(404, "", "no such file")

        def _note(self, file: str) -> None:
            if self.command == "GET":
                hub.fetched.append(file)

        def _refuse(self, status: int, code: str, message: str) -> None:
            headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
            self._answer(status, json.dumps({"error": message}).encode(), headers)

        def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    return Handler
