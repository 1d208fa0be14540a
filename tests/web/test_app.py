"""The guard before the routes, the limits, and the pages."""

from pathlib import Path

import pytest
from web_server import serving, write_photo

from glocal.errors import ArgumentError
from glocal.web.access import Access
from glocal.web.app import PAGE, make_app
from glocal.web.limits import Limits
from glocal.web.supervisor import resident_bytes


def post(client, path: Path, **headers: str):
    return client.post(
        "/api/v1/jobs", files={"file": (path.name, path.read_bytes())}, headers=headers
    )


def test_other_hosts_and_origins_are_refused(client) -> None:
    assert client.get("/healthz", headers={"host": "evil.example"}).status_code == 403
    assert client.get("/healthz", headers={"origin": "http://evil.example"}).status_code == 403
    assert client.get("/healthz", headers={"origin": "http://localhost:8000"}).status_code == 200


def test_a_token_is_needed_where_one_is_set(tmp_path: Path) -> None:
    access = Access("0.0.0.0", "secret")
    with serving(tmp_path / "jobs", access, Limits()) as client:
        assert client.get("/healthz").status_code == 200
        refused = client.get("/api/v1/models")
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        header = {"authorization": "Bearer secret"}
        assert client.get("/api/v1/openapi.json", headers=header).status_code == 200
        assert "needs the token" in client.get("/").text  # led to /login
        assert client.post("/login", data={"token": "guess"}).status_code == 401
        assert client.post("/login", data={"token": "secret"}).status_code == 200
        assert client.get("/api/v1/openapi.json").status_code == 200  # by the cookie


def test_pages_run_only_scripts_of_the_server(client) -> None:
    for path in ("/", "/docs", "/login"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert "script-src 'self'" in answer.headers["content-security-policy"]
        assert "<script>" not in answer.text
        assert "style=" not in answer.text
    for path in ("/page/app.js", "/components/compare.js", "/page/swagger/swagger-ui.css"):
        assert client.get(path).status_code == 200


def test_only_what_the_page_needs_is_served(client) -> None:
    for path in ("/components/__init__.py", "/page/../app.py", "/page/%2e%2e/app.py", "/page/"):
        assert client.get(path).status_code == 404


def test_every_file_of_the_page_exists() -> None:
    import re

    for page in PAGE.glob("*.html"):
        for path in re.findall(r'(?:src|href)="/page/([^"]+)"', page.read_text()):
            assert (PAGE / path).is_file(), path


def test_too_many_bytes_are_refused_while_they_come(tmp_path: Path) -> None:
    photo = write_photo(tmp_path / "a.png", 60, 80)
    with serving(tmp_path / "jobs", Access(), Limits(nbytes=1000)) as client:
        answer = post(client, photo)
        assert (answer.status_code, "more than 1000 bytes" in answer.text) == (413, True)

        def chunks():
            for _ in range(30):
                yield bytes(100_000)

        headers = {"content-type": "multipart/form-data; boundary=x"}
        answer = client.post("/api/v1/jobs", content=chunks(), headers=headers)
        assert answer.status_code == 413
        declared = {**headers, "content-length": "9000000"}
        assert client.post("/api/v1/jobs", content=b"", headers=declared).status_code == 413
    assert list((tmp_path / "jobs" / "photos").iterdir()) == []


def test_too_many_pixels_and_jobs_are_refused(tmp_path: Path) -> None:
    photo = write_photo(tmp_path / "a.png", 30, 40)
    with serving(tmp_path / "jobs", Access(), Limits(pixels=1199)) as client:
        answer = post(client, photo)
        assert answer.status_code == 413
        assert answer.json()["detail"].startswith("a.png: 40 × 30 pixels are more than 1199")
    with serving(tmp_path / "jobs", Access(), Limits(jobs_per_client=1)) as client:
        first = post(client, photo)
        answer = post(client, photo)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "10")
        digest = first.json()["photo"]["digest"]
        assert (tmp_path / "jobs" / "photos" / digest).exists()  # of the job that waits


def test_a_folder_has_one_server(tmp_path: Path) -> None:
    with (
        serving(tmp_path / "jobs", Access(), Limits()),
        pytest.raises(ArgumentError, match="another glocal serve uses this folder"),
        serving(tmp_path / "jobs", Access(), Limits()),
    ):
        pass


def test_names_of_files_are_for_show_only(client, folder: Path) -> None:
    data = (folder / "photo.png").read_bytes()
    for name, shown in (
        ("../../etc/a.png", "a.png"),
        ("C:\\x\\b.png", "b.png"),
        ("c\x7f[2J.png", "c[2J.png"),
        ("...", "photograph"),
    ):
        answer = client.post("/api/v1/jobs", files={"file": (name, data)})
        assert answer.json()["photo"]["name"] == shown


def test_the_document_says_what_is_refused() -> None:
    import tempfile

    folder = Path(tempfile.mkdtemp())
    paths = make_app(folder, Access(), Limits(), ()).openapi()["paths"]
    assert {"201", "413", "415", "429"} <= set(paths["/api/v1/jobs"]["post"]["responses"])


def test_the_memory_of_a_process_is_known_on_linux() -> None:
    import os
    import sys

    if sys.platform != "linux":
        pytest.skip("measured on Linux alone")
    found = resident_bytes(os.getpid())
    assert found is not None
    assert found > 1_000_000
    assert resident_bytes(2**30) is None
