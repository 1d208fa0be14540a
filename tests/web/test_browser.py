"""The page in Debian's Chromium, against a server in a process of its own."""

import os
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluations import NAMES, PSNR, constructed
from filelock import FileLock
from web_server import Server, allowed_networks

from glocal.images import image_files as images
from glocal.images.image_files import Image
from glocal.study.evaluation.pictures import TARGET, Pictures, picture, write_picture
from glocal.study.report import write_report

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (apt: chromium)"),
]
expect = sync_api.expect

LONG_MS = 90_000


@pytest.fixture(scope="module")
def allowed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return allowed_networks(tmp_path_factory.mktemp("allowed"))


@pytest.fixture(scope="module")
def server(allowed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = Server(tmp_path_factory.mktemp("served"), allowed, "--max-bytes", "3MB")
    yield started
    started.kill()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"] if os.geteuid() == 0 else []
        )
        yield launched
        launched.close()


@pytest.fixture
def visit(browser: Any, server: Server) -> Iterator[Callable[..., Any]]:
    """Open the page; any error in its console fails the test."""
    contexts, errors = [], []

    def call(url: str = server.url, **options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(LONG_MS)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(url)
        page.wait_for_selector("html[data-ready]")
        return page

    yield call
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A photograph of 16 bits."""
    path = tmp_path / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 65536, (160, 240, 3), np.uint16)
    images.write(path, Image(pixels, texts=(("Author", "me"),)))
    return path


def choose(page: Any, photo: Path, network: str = "quick", way: str = "full") -> None:
    page.set_input_files("#file", photo)
    page.select_option("#model", label=network)
    page.check(f"input[value={way}]")
    page.click("summary:has-text('More options')")
    page.uncheck("#check")
    expect(page.locator("#restore")).to_be_enabled()


def at(page: Any) -> float:
    """Where the slider stands, in percent."""
    return float(page.locator("#view").evaluate("e => e.style.getPropertyValue('--at')"))


def test_a_photograph_is_restored_compared_and_downloaded(visit, photo: Path, tmp_path) -> None:
    page = visit()
    choose(page, photo)
    expect(page.locator("#view")).to_have_class(re.compile("single"))
    page.click("#restore")
    page.wait_for_selector(".version")
    expect(page.locator("#view")).not_to_have_class(re.compile("single"))
    view = page.locator("#view").bounding_box()

    def drag(start: float, end: float) -> None:
        y = view["y"] + view["height"] / 2
        page.mouse.move(view["x"] + start * view["width"], y)
        page.mouse.down()
        page.mouse.move(view["x"] + end * view["width"], y, steps=3)
        page.mouse.up()

    drag(0.5, 0.25)  # the slider by mouse
    assert at(page) == pytest.approx(25, abs=1)
    page.locator("#view input").focus()
    page.keyboard.press("ArrowRight")  # ... and by keyboard
    assert at(page) > 25.5
    page.keyboard.press("1")
    ratio = page.evaluate("devicePixelRatio")
    expect(page.locator("#zoom output")).to_have_text(f"{100 * ratio:.0f} %")
    tiles = page.locator("#view .pane.right .picture img")
    transform = "e => new DOMMatrix(getComputedStyle(e).transform)"
    before = page.locator("#view .pane.right .picture").evaluate(transform)
    assert before["a"] == pytest.approx(1 / ratio)
    for _ in range(6):
        page.keyboard.press("+")
    enlarged = page.locator("#view .pane.right .picture").evaluate(transform)["e"]
    page.keyboard.press("Shift+ArrowRight")
    assert page.locator("#view .pane.right .picture").evaluate(transform)["e"] < enlarged
    expect(tiles.first).to_be_attached()
    page.keyboard.press("0")
    page.mouse.move(view["x"] + view["width"] / 2, view["y"] + view["height"] / 2)
    page.mouse.wheel(0, -400)
    expect(page.locator("#view")).to_have_class(re.compile("zoomed"))
    page.click("#places button >> nth=0")
    expect(page.locator("#view .frame")).to_be_visible()
    with page.expect_download() as started:
        page.click(".version >> text=Download")
    target = tmp_path / started.value.suggested_filename
    started.value.save_as(target)
    assert target.name == "photo-full.png"
    result = images.read(target)
    assert (result.bits, result.size, result.texts) == (16, (160, 240), (("Author", "me"),))


def test_two_ways_are_compared_and_survive_a_reload(visit, photo: Path) -> None:
    page = visit()
    choose(page, photo)
    page.click("#restore")
    page.wait_for_selector(".version")
    page.check("input[value=stitch]")
    page.click("#restore")
    page.wait_for_selector(".version:nth-child(2)")
    page.select_option("#left", label="Full image")
    page.select_option("#right", label="Crop-and-stitch")
    expect(page.locator("#places button")).to_have_count(2)
    expect(page.locator("#magnifier figcaption")).to_have_text(["Full image", "Crop-and-stitch"])
    page.reload()
    page.wait_for_selector(".version:nth-child(2)")
    expect(page.locator("#photo-facts")).to_contain_text("240 × 160, 16 bits, PNG")
    page.click(".version >> nth=0 >> text=Delete")
    expect(page.locator(".version")).to_have_count(1)


def test_a_reload_goes_on_and_cancel_ends_a_job(visit, server: Server, photo: Path) -> None:
    page = visit()
    choose(page, photo, "slow")
    page.click("#restore")
    page.wait_for_selector(".job .progress")
    expect(page).to_have_url(re.compile("#jobs="))
    page.reload()
    page.wait_for_selector(".job .progress")
    job = page.url.rpartition("=")[2]
    assert server.ask(f"jobs/{job}")["state"] in ("queued", "running")
    page.click(".job >> text=Cancel")
    expect(page.locator(".job")).to_have_count(0)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        server.ask(f"jobs/{job}")
    expect(page.locator("#error")).to_be_hidden()


def test_a_broken_and_an_oversize_file_are_refused_in_words(visit, photo: Path, tmp_path) -> None:
    page = visit()
    broken = tmp_path / "broken.png"
    broken.write_bytes(photo.read_bytes()[:20_000])
    choose(page, broken)
    page.click("#restore")
    expect(page.locator("#error")).to_contain_text("broken.png: is damaged or cut short")
    no_image = tmp_path / "text.png"
    no_image.write_bytes(b"no image")
    page.set_input_files("#file", no_image)
    page.click("#restore")
    expect(page.locator("#error")).to_contain_text("text.png: is not an image")
    large = tmp_path / "large.png"
    large.write_bytes(bytes(3_000_001))
    page.set_input_files("#file", large)
    expect(page.locator("#error")).to_contain_text("this server takes 3 MB at most")


def test_two_users_work_at_once(visit, photo: Path, tmp_path) -> None:
    other = tmp_path / "other.png"
    images.write(other, Image(np.zeros((100, 120, 3), np.uint8)))
    pages = [visit(), visit()]
    for page, path in zip(pages, (photo, other), strict=True):
        choose(page, path)
    for page in pages:
        page.click("#restore")
    for page, name in zip(pages, ("photo.png", "other.png"), strict=True):
        page.wait_for_selector(".version")
        expect(page.locator("#photo-name")).to_have_text(name)


def test_a_killed_server_goes_on_where_it_stopped(
    visit, allowed: Path, photo: Path, tmp_path: Path
) -> None:
    server = Server(tmp_path / "jobs", allowed)
    try:
        page = visit(server.url)
        choose(page, photo, "slow")
        page.click("#restore")
        page.wait_for_selector(".job .progress")
        expect(page).to_have_url(re.compile("#jobs="))
        job = page.url.rpartition("=")[2]
        server.wait_for(job, "running")
        server.kill()
        server.start()
        page.wait_for_selector(".version")  # the page connected again by itself
        assert server.ask(f"jobs/{job}")["state"] == "done"
    finally:
        server.kill()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_axe_finds_nothing(visit, photo: Path, scheme: str, width: int) -> None:
    axe = axe_script()
    # colours that are on their way to others are not judged
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 800}}
    options["reduced_motion"] = "reduce"
    page = visit(**options, bypass_csp=True)
    page.add_script_tag(path=axe)

    def violations() -> list[str]:
        found = page.evaluate("axe.run()")["violations"]
        return [f"{each['id']}: {[n['html'] for n in each['nodes'][:3]]}" for each in found]

    assert violations() == []
    choose(page, photo, way="windows")
    page.click("#restore")
    page.wait_for_selector(".job")
    assert violations() == []
    page.wait_for_selector(".version")
    page.click("#measure")
    page.wait_for_selector("#shift svg.plot")
    assert violations() == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def axe_script() -> Path:
    """axe-core from npm, or a skip."""
    folder = Path(__file__).parents[2] / ".cache" / "axe"
    script = folder / "node_modules" / "axe-core" / "axe.min.js"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):  # tests run in several processes
        if not script.exists():
            _fetch_axe(folder)
    return script


def _fetch_axe(folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("axe-core comes from npm, which is not installed")
    command = [npm, "install", "--no-save", "--ignore-scripts", "--prefix", str(folder)]
    fetched = subprocess.run([*command, "axe-core@4"], capture_output=True, check=False)
    if fetched.returncode:
        pytest.skip("axe-core cannot be fetched from npm")


def test_the_documentation_works_without_internet(browser: Any, server: Server) -> None:
    page = browser.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    problems: list[str] = []
    page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    page.goto(f"{server.url}docs")
    page.wait_for_selector(".opblock")
    assert [url for url in asked if not url.startswith((server.url, "data:"))] == []
    assert problems == []
    page.close()


def test_the_report_of_an_evaluation_has_the_same_slider(browser: Any, tmp_path: Path) -> None:
    shown = Pictures(tmp_path / "images", 1)
    (folder,) = shown.folders(NAMES).values()
    rng = np.random.default_rng(0)
    for name in (*PSNR, TARGET):
        write_picture(picture(folder, name), rng.random((130, 260, 3)))
    _, report = write_report(constructed(), tmp_path, shown)
    page = browser.new_page(viewport={"width": 360, "height": 800})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(report.as_uri())
    page.locator(".view input").focus()
    page.keyboard.press("ArrowRight")
    assert float(page.locator(".view").evaluate("e => e.style.getPropertyValue('--at')")) > 50
    page.click(".places button >> nth=0")
    expect(page.locator(".view .frame")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.add_script_tag(path=axe_script())
    assert [each["id"] for each in page.evaluate("axe.run()")["violations"]] == []
    assert errors == []
    page.close()
