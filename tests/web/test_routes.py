import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from glocal.errors import ImageError
from glocal.images import image_files as images
from glocal.images.image_files import Image, decode
from glocal.inference.settings import Settings
from glocal.networks import load_checkpoint
from glocal.runs.folder import restore_file
from glocal.study.harm import WayCheck
from glocal.web.queue import Queue
from glocal.web.storage import Storage
from glocal.web.tasks import Context, do
from glocal.web.worker import reason


@pytest.fixture(autouse=True)
def no_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs compare no ways, see tests/study/test_first_look.py."""
    monkeypatch.setattr("glocal.study.harm.check_ways", lambda *given: None)


def send(client, folder: Path, *, name: str = "photo.png", **options: object):
    given = {"model": str(folder / "tiny.safetensors"), **options}
    files = {"file": (name, (folder / "photo.png").read_bytes())}
    return client.post("/api/v1/jobs", data=given, files=files)


def work(tmp_path: Path) -> list[dict]:
    """Do all jobs that wait; return their outcomes."""
    storage = Storage(tmp_path / "jobs")
    queue, outcomes = Queue(storage.queue), []
    while (job := queue.claim(1)) is not None:
        outcomes.append(do(job, Context(storage, "cpu"), lambda *told: None))
        queue.finish(job.id, outcomes[-1])
    return outcomes


def test_a_photograph_is_restored_as_by_the_command_line(
    client, folder: Path, tmp_path: Path
) -> None:
    answer = send(client, folder, way="windows", strength=0.5)
    assert answer.status_code == 201, answer.text
    job = answer.json()
    assert (job["state"], job["photo"]["width"], job["photo"]["kind"]) == ("queued", 52, "png")
    assert client.get(f"/api/v1/jobs/{job['id']}/result").status_code == 409
    (outcome,) = work(tmp_path)
    settings = Settings("windows", 16)
    network = settings.network(load_checkpoint(folder / "tiny.safetensors").network)
    restore_file(network, folder / "photo.png", tmp_path / "own.png", strength=0.5)
    result = client.get(answer.headers["location"] + "/result")
    assert result.content == (tmp_path / "own.png").read_bytes()
    assert 'filename="photo-windows.png"' in result.headers["content-disposition"]
    assert outcome["plan"]["rows"][0][1] == "adaptive_avg_pool2d"


def test_depth_and_metadata_are_kept(client, folder: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, (40, 48, 3), np.uint16)
    images.write(folder / "photo.png", Image(pixels, texts=(("Author", "me"),)))
    job = send(client, folder, way="degraded", format="tif").json()
    (outcome,) = work(tmp_path)
    assert (outcome["bits"], outcome["suffix"]) == (16, ".tif")
    data = client.get(f"/api/v1/jobs/{job['id']}/result").content
    np.testing.assert_array_equal(decode(data).pixels, pixels)
    assert any("Author" in note for note in outcome["notes"])


def test_pictures_tiles_and_differences(client, folder: Path, tmp_path: Path) -> None:
    first, second = (send(client, folder, way=way).json()["id"] for way in ("full", "degraded"))
    assert client.get(f"/api/v1/jobs/{first}/pictures/photo").status_code == 409
    work(tmp_path)
    pixels = images.read(folder / "photo.png").pixels
    tile = client.get(f"/api/v1/jobs/{second}/pictures/result/tiles/0/0/0")
    np.testing.assert_array_equal(decode(tile.content).pixels, pixels)
    assert client.get(f"/api/v1/jobs/{second}/pictures/result/tiles/0/1/0").status_code == 404
    assert decode(client.get(f"/api/v1/jobs/{first}/pictures/photo").content).size == (40, 52)
    restored = images.read(tmp_path / "jobs" / "jobs" / first / "result.png").pixels
    found = client.get(f"/api/v1/jobs/{first}/difference", params={"other": second, "side": 20})
    box = found.json()["boxes"][0]
    part = np.s_[box["top"] : box["top"] + 20, box["left"] : box["left"] + 20]
    expected = np.abs(restored[part].astype(int) - pixels[part]).mean()
    assert box["mean"] == pytest.approx(expected)
    alone = client.get(f"/api/v1/jobs/{first}/difference", params={"side": 20}).json()
    assert alone == found.json()


def test_a_plan_takes_no_photograph(client, folder: Path, tmp_path: Path) -> None:
    options = {"kind": "plan", "model": str(folder / "tiny.safetensors"), "way": "windows"}
    job = client.post("/api/v1/jobs", data=options).json()
    work(tmp_path)
    plan = client.get(f"/api/v1/jobs/{job['id']}/result").json()["plan"]
    assert plan["heading"].startswith("training size 16x16, window 24x24")
    refused = send(client, folder, kind="plan")
    assert (refused.status_code, refused.json()["detail"]) == (422, "a plan takes no photograph")


def test_a_shift_of_statistics_is_measured(
    client, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glocal.web.tasks._CROPS", 2)
    job = send(client, folder, kind="shift").json()
    work(tmp_path)
    shift = client.get(f"/api/v1/jobs/{job['id']}/result").json()["shift"]
    assert {*shift["operations"][0]["distance"]} == {"full", "local", "from_crops"}


def test_a_photograph_is_sent_once_for_several_ways(client, folder: Path, tmp_path: Path) -> None:
    first = send(client, folder).json()
    again = {"model": str(folder / "tiny.safetensors"), "way": "full", "job": first["id"]}
    second = client.post("/api/v1/jobs", data=again).json()
    assert second["photo"] == first["photo"]
    photo = tmp_path / "jobs" / "photos" / first["photo"]["digest"]
    for job in (first, second):
        assert photo.exists()
        assert client.delete(f"/api/v1/jobs/{job['id']}").status_code == 204
        assert client.get(f"/api/v1/jobs/{job['id']}").status_code == 404
    assert not photo.exists()
    assert client.post("/api/v1/jobs", data=again).status_code == 404


def test_a_photograph_may_be_an_allowed_path_or_an_example(client, folder: Path) -> None:
    path = {"path": str(folder / "photo.png"), "model": str(folder / "tiny.safetensors")}
    assert client.post("/api/v1/jobs", data=path).status_code == 201
    found = client.get("/api/v1/models").json()
    assert [each["kind"] for each in found["models"]] == ["embedded", "file"]
    example = {"example": found["examples"][0]["name"]}
    assert client.post("/api/v1/jobs", data=example).json()["photo"]["width"] == 1400


def test_events_follow_a_job_to_its_end(client, folder: Path, tmp_path: Path) -> None:
    job = send(client, folder, way="degraded").json()
    work(tmp_path)
    with client.stream("GET", f"/api/v1/jobs/{job['id']}/events") as answer:
        lines = [line for line in answer.iter_lines() if line.startswith("data: ")]
    assert json.loads(lines[-1].removeprefix("data: "))["state"] == "done"


def test_crops_are_taken_where_windows_do_harm(
    client, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = WayCheck(1.0, 3.0, 0.1)
    monkeypatch.setattr("glocal.study.harm.check_ways", lambda *given: bad)
    send(client, folder)
    send(client, folder, check=False)
    looked, blind = work(tmp_path)
    assert (looked["way"], blind["way"]) == ("crops", "auto")
    assert f"{bad.harm()}; crops were taken" in looked["notes"]


def test_a_failure_names_no_path_of_the_server(client, folder: Path, tmp_path: Path) -> None:
    storage = Storage(tmp_path / "jobs")
    send(client, folder, name="mine.png")
    job = Queue(storage.queue).claim(1)
    assert job is not None
    damaged = ImageError(f"{storage.photo(job.photo or '')}: is damaged or cut short")
    assert reason(damaged, storage, job) == "mine.png: is damaged or cut short"


def test_numbers_come_as_text(client, folder: Path) -> None:
    options = send(client, folder, ensemble=8, check=False, strength=0.25).json()["options"]
    assert (options["ensemble"], options["check"], options["strength"]) == (8, False, 0.25)


def test_a_wrong_method_is_answered_with_the_right_ones(client) -> None:
    answer = client.put("/api/v1/jobs/" + "0" * 32)
    assert (answer.status_code, answer.headers["allow"]) == (405, "DELETE, GET")


@pytest.mark.parametrize(
    ("data", "status", "says"),
    [
        ({"way": "best"}, 422, "way: Input should be"),
        ({"speed": "1"}, 422, "speed: Extra inputs"),
        ({"strength": "2"}, 422, "strength: Input should be less than"),
        ({"model": "no-such"}, 404, "no-such: no model has this name"),
        ({"model": "/etc/passwd"}, 403, "no file of the folders"),
        ({"model": "os:system"}, 404, "no model"),
        ({}, 422, "exactly one of"),
        ({"path": "/etc/passwd"}, 403, "/etc/passwd: no file of the folders"),
        ({"path": "/etc/passwd\0.png"}, 403, "no file of the folders"),
        ({"example": "../app.py"}, 404, "no such example"),
        ({"job": "0" * 32}, 404, "no such job"),
        ({"job": "../../x"}, 422, "job"),
    ],
)
def test_wrong_requests_are_refused(client, data: dict, status: int, says: str) -> None:
    answer = client.post("/api/v1/jobs", data=data)
    assert answer.status_code == status, answer.text
    assert says in answer.json()["detail"]


def test_a_pickle_is_refused(client, folder: Path) -> None:
    (folder / "net.pth").write_bytes(b"")
    answer = send(client, folder, model=str(folder / "net.pth"))
    assert (answer.status_code, "safetensors files alone" in answer.text) == (422, True)
    torch.save({"params": {"weight": torch.zeros(1)}}, folder / "net.safetensors")
    answer = send(client, folder, model=str(folder / "net.safetensors"))
    assert (answer.status_code, "net.safetensors" in answer.text) == (422, True)


def test_what_is_no_image_is_refused(client, folder: Path, tmp_path: Path) -> None:
    files = {"file": ("a.png", io.BytesIO(b"no image"))}
    answer = client.post("/api/v1/jobs", files=files)
    assert answer.status_code == 415
    assert answer.json()["detail"] == "a.png: is not an image of a format that can be read"
    assert list((tmp_path / "jobs" / "photos").iterdir()) == []
