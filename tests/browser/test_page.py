"""The page in a real Chromium, and its API through gradio_client, as a user meets them."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from playwright.sync_api import Browser, Page, expect, sync_playwright

from core.runs import RunFolder, request_stop

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
SOON = 20_000  # milliseconds
# Of the loss curve; 0 while the page is still building its charts.
COUNT_POINTS = "document.querySelector('#live [data-slot=loss]')?.data?.[0].x.length ?? 0"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="there is no Chromium; set CHROMIUM to its path"),
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The app, started as the README says, on a free port and an empty folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    runs = tmp_path_factory.mktemp("app") / "runs"
    process = subprocess.Popen(
        [sys.executable, "app.py", "--port", str(port), "--runs", str(runs), "--data", "synthetic"],
        cwd=ROOT,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(address, timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, "the app ended"
                assert time.monotonic() < deadline, "the app did not answer within 60 s"
                time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait(10)
        end_workers(runs)  # a training outlives the app


def end_workers(runs: Path) -> None:
    """Stop whatever still trains, as a test that failed halfway may have left it."""
    living = [RunFolder(path) for path in runs.iterdir() if path.is_dir()]
    for run in living:
        request_stop(run, "stop")
    deadline = time.monotonic() + 60
    while any(run.has_worker() for run in living):
        assert time.monotonic() < deadline, "a worker did not stop within 60 s"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser: Browser, url: str) -> Iterator[Callable[..., Page]]:
    """Opens the page; at the end no script may have failed on it."""
    pages, errors = [], []

    def open_one(width: int = 1280, theme: str = "light") -> Page:
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{url}/?__theme={theme}")
        expect(page.get_by_role("tab", name="Train")).to_be_visible(timeout=SOON)
        pages.append(page)
        return page

    yield open_one
    for page in pages:
        page.close()
    assert errors == []


def points(page: Page) -> int:
    return page.evaluate(COUNT_POINTS)


def zoom(page: Page) -> list[float]:
    return page.evaluate("document.querySelector('#live [data-slot=loss]').layout.xaxis.range")


def wait_for_points(page: Page, more_than: int) -> int:
    page.wait_for_function(
        f"n => ({COUNT_POINTS}) > n",
        arg=more_than,
        timeout=200_000,
    )
    return points(page)


def test_an_empty_start_says_what_to_do(open_page: Callable[..., Page]) -> None:
    page = open_page()
    expect(page.locator("#live")).to_contain_text("No training yet", timeout=SOON)
    page.get_by_role("tab", name="Results").click()
    expect(page.locator("#results")).to_contain_text("no trained network yet")
    page.get_by_role("tab", name="Classify").click()
    expect(page.locator("#answer")).to_contain_text("no trained network yet")


def test_the_whole_way_once(open_page: Callable[..., Page], picture: Path, url: str) -> None:
    page = open_page()
    page.get_by_label("Simple CNN").click()
    page.get_by_text("More settings").click()
    page.get_by_label("Epochs").fill("60")
    page.get_by_role("button", name="Start training").click()

    first = wait_for_points(page, 0)
    wait_for_points(page, first)
    expect(page.locator("#live .lab-status")).to_contain_text("running")

    chart = page.locator("#live [data-slot=loss] .nsewdrag")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + box["height"] * 0.3)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.7, steps=5)
    page.mouse.up()
    page.wait_for_function(
        "document.querySelector('#live [data-slot=loss]').layout.xaxis.autorange === false"
    )
    zoomed = zoom(page)
    wait_for_points(page, wait_for_points(page, points(page)))
    assert zoom(page) == zoomed

    again = open_page()
    assert wait_for_points(again, 0) > 0
    expect(again.locator("#live .lab-head")).to_contain_text("Simple CNN")

    expect(page.locator("#live .lab-status")).to_contain_text("finished", timeout=240_000)

    page.get_by_role("tab", name="Results").click()
    expect(page.locator("#results .lab-big")).to_have_text(re.compile(r"^\d+\.\d %$"), timeout=SOON)
    accuracy = float(page.locator("#results .lab-big").inner_text().split()[0])
    assert accuracy > 60
    bars = page.evaluate("document.querySelector('#results [data-slot=per-class]').data[0]")
    assert bars["y"][:2] == ["arrow", "circle"]
    assert len(bars["y"]) == len(bars["x"]) == 10
    cells = page.locator("#results tbody td:nth-child(2)").all_inner_texts()
    assert cells == bars["text"]
    mean = sum(float(cell.split()[0]) for cell in cells) / 10
    assert abs(mean - accuracy) < 0.2  # every class has the same number of test pictures

    page.get_by_role("button", name="Show test pictures").click()
    expect(page.locator("#strip figure")).to_have_count(16, timeout=SOON)
    for caption in page.locator("#strip figcaption").all():
        truth, said = caption.locator("b").all_inner_texts()
        assert ("✓" in caption.inner_text()) == (truth == said)

    page.get_by_role("tab", name="Classify").click()
    page.locator("#picture input[type=file]").set_input_files(picture)
    expect(page.locator("#answer .lab-bars li")).to_have_count(5, timeout=SOON)
    expect(page.locator("#answer .lab-verdict")).not_to_be_empty()
    expect(page.locator("#answer .lab-class").first).to_have_text("star")

    client = Client(url, verbose=False)
    (run,) = [r for r in client.predict(api_name="/list_runs") if r["status"] == "finished"]
    answer = client.predict(handle_file(str(picture)), run["id"], 10, api_name="/classify")
    assert answer["label"] == "star"
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-6)
    report = client.predict(run["id"], api_name="/report")
    assert report["metrics"]["accuracy"] == pytest.approx(accuracy / 100, abs=0.001)


def test_a_file_that_is_no_picture_gets_a_sentence(
    open_page: Callable[..., Page], tmp_path: Path, url: str
) -> None:
    client = Client(url, verbose=False)
    run = client.predict(api_name="/list_runs")[0]["id"]
    text = tmp_path / "notes.png"
    text.write_text("not a picture at all")
    with pytest.raises(AppError, match="not a picture"):
        client.predict(handle_file(str(text)), run, 5, api_name="/classify")
    with pytest.raises(AppError, match="no run"):
        client.predict(handle_file(str(text)), "no-such-run-here", 5, api_name="/classify")
    with pytest.raises(AppError):
        client.predict("simple_cnn", "/etc", "quick", None, 0, api_name="/start_training")
    page = open_page()
    page.get_by_role("tab", name="Classify").click()
    page.locator("#picture input[type=file]").set_input_files(text)
    expect(page.locator("#answer [role=alert]")).to_contain_text("not a picture", timeout=SOON)


def test_stop_saves_and_ends_the_training(open_page: Callable[..., Page], url: str) -> None:
    page = open_page()
    page.get_by_label("Simple CNN").click()
    page.get_by_text("More settings").click()
    page.get_by_label("Epochs").fill("2000")
    page.get_by_role("button", name="Start training").click()
    page.wait_for_function(
        "document.querySelector('#live .lab-facts')?.innerText.includes('epoch 2/2000')", timeout=200_000
    )
    page.get_by_role("button", name="Start training").click()
    expect(page.get_by_text("A training is running")).to_be_visible(timeout=SOON)
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#live .lab-status")).to_contain_text("stopped", timeout=SOON)
    newest = Client(url, verbose=False).predict(api_name="/list_runs")[0]
    assert newest["status"] == "stopped"


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_screen(open_page: Callable[..., Page], width: int, theme: str) -> None:
    page = open_page(width, theme)
    for tab in ("Train", "Results", "Classify"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(400)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, tab
