"""The page in a real Chromium, and its API through gradio_client, as a user meets them."""

import asyncio
import base64
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from core.checkpoint import CheckpointInfo, read_info, save_checkpoint
from core.models import create_model
from core.runs import RunFolder, create_run, read_events, request_stop
from core.runs.log import settle
from tests.conftest import make_config

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
SOON = 20_000  # milliseconds
GALLERY = "#results [data-slot=html-gallery]"
# Of the loss curve; 0 while the page is still building its charts.
COUNT_POINTS = "document.querySelector('#live [data-slot=loss]')?.data?.[0].x.length ?? 0"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="there is no Chromium; set CHROMIUM to its path"),
]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def start_app(port: int, runs: Path, *options: str) -> subprocess.Popen[bytes]:
    """The app, started as the README says, without shipped networks; returns when it answers."""
    command = [sys.executable, "app.py", "--port", str(port), "--runs", str(runs), "--data", "synthetic"]
    if "--checkpoints" not in options:
        command += ["--checkpoints", str(runs.parent / "no-checkpoints")]
    process = subprocess.Popen([*command, *options], cwd=ROOT)
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=5).close()
            return process
        except OSError:
            assert process.poll() is None, "the app ended"
            assert time.monotonic() < deadline, "the app did not answer within 60 s"
            time.sleep(0.2)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("app") / "runs"


@pytest.fixture(scope="module")
def url(runs: Path) -> Iterator[str]:
    """The address of an app on a free port and an empty folder."""
    port = free_port()
    process = start_app(port, runs)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)
        end_workers(runs)  # a training outlives the app


def end_workers(runs: Path) -> None:
    """Stop whatever still trains, as a test that failed halfway may have left it."""
    living = [RunFolder(path) for path in runs.iterdir() if path.is_dir()]
    for run in living:
        run.queued_file.unlink(missing_ok=True)
        request_stop(run, "stop")
    deadline = time.monotonic() + 60
    while any(run.has_worker() or run.is_launched() for run in living):
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


def wait_until(page: Page, condition: str, arg: Any = None, timeout: float = 60_000) -> None:
    """Looks on a clock; Playwright's usual way, at each frame, hangs where a hidden page gets none."""
    page.wait_for_function(condition, arg=arg, timeout=timeout, polling=100)


def wait_for_points(page: Page, more_than: int) -> int:
    wait_until(page, f"n => ({COUNT_POINTS}) > n", more_than, 200_000)
    return points(page)


def test_an_empty_start_says_what_to_do(open_page: Callable[..., Page]) -> None:
    page = open_page()
    expect(page.locator("#live")).to_contain_text("No training yet", timeout=SOON)
    page.get_by_role("tab", name="Results").click()
    expect(page.locator("#results")).to_contain_text("no trained network yet")
    page.get_by_role("tab", name="Classify").click()
    expect(page.locator("#answer")).to_contain_text("no trained network yet")


def start_training(page: Page, epochs: int, usual: str = "30") -> None:
    """Start with a simple CNN, for which `usual` epochs are set on the data chosen."""
    page.get_by_label("Simple CNN").click()
    page.get_by_text("More settings").click()
    field = page.get_by_label("Epochs", exact=True)
    expect(field).to_have_value(usual, timeout=SOON)  # a script is faster than the page
    field.fill(str(epochs))
    page.get_by_role("button", name="Start training").click()


def test_usual_settings_never_replace_what_was_typed_after_a_choice(open_page: Callable[..., Page]) -> None:
    page = open_page()
    page.get_by_text("More settings").click()
    field = page.get_by_label("Epochs", exact=True)
    expect(field).to_have_value("5", timeout=SOON)
    page.route("**/queue/join*", lambda route: None)  # whatever the server would say comes never
    page.get_by_label("Simple CNN").click()
    expect(field).to_have_value("30", timeout=SOON)
    field.fill("3")
    page.get_by_label("fast", exact=True).click()
    expect(field).to_have_value("30", timeout=SOON)
    expect(page.get_by_label("Learning rate")).to_have_value("0.05")
    expect(page.get_by_text("About ten passes")).to_be_visible()


def status(page: Page) -> Locator:
    return page.locator("#live .lab-status")


def press(page: Page, action: str) -> None:
    page.locator(f"#live [data-action={action}]").click()


def click_cell(page: Page, truth: str, said: str) -> None:
    """With the mouse, on the confusion matrix."""
    box = page.evaluate(
        """([truth, said]) => {
          const div = document.querySelector('#results [data-slot=confusion]');
          div.scrollIntoView({block: 'center'});
          const {xaxis, yaxis} = div._fullLayout, frame = div.getBoundingClientRect();
          return [frame.x + xaxis._offset + xaxis.d2p(said), frame.y + yaxis._offset + yaxis.d2p(truth)];
        }""",
        [truth, said],
    )
    page.mouse.move(*box)
    page.mouse.click(*box)


@pytest.mark.timeout(900)
def test_the_whole_way_once(open_page: Callable[..., Page], picture: Path, url: str, tmp_path: Path) -> None:
    page = open_page()
    start_training(page, epochs=60)

    first = wait_for_points(page, 0)
    wait_for_points(page, first)
    expect(status(page)).to_contain_text("running")

    chart = page.locator("#live [data-slot=loss] .nsewdrag")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + box["height"] * 0.3)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.7, steps=5)
    page.mouse.up()
    wait_until(page, "document.querySelector('#live [data-slot=loss]').layout.xaxis.autorange === false")
    zoomed = zoom(page)
    wait_for_points(page, wait_for_points(page, points(page)))
    assert zoom(page) == zoomed

    again = open_page()
    assert wait_for_points(again, 0) > 0
    expect(again.locator("#live .lab-head")).to_contain_text("Simple CNN")

    expect(page.locator("#live [data-part=s9] b")).not_to_be_empty(timeout=SOON)
    expect(page.locator("#live .lab-filters")).to_be_visible()
    expect(status(page)).to_contain_text("finished", timeout=400_000)
    wait_until(page, "document.querySelector('#live [data-slot=map]').data[0].z.length === 60")
    seen_live = page.evaluate("document.querySelector('#live [data-slot=classes]').data.map(t => t.y.at(-1))")
    assert len(seen_live) == 10
    assert all(0 <= accuracy <= 1 for accuracy in seen_live)
    page.reload()
    wait_until(page, "document.querySelector('#live [data-slot=map]')?.data?.[0].z.length === 60")
    reloaded = page.evaluate("document.querySelector('#live [data-slot=classes]').data.map(t => t.y.at(-1))")
    assert reloaded == seen_live  # nothing lost or doubled on the way

    page.get_by_role("tab", name="Results").click()
    expect(page.locator("#results .lab-big")).to_have_text(re.compile(r"^\d+\.\d %$"), timeout=SOON)
    accuracy = float(page.locator("#results .lab-big").inner_text().split()[0])
    assert accuracy > 60
    bars = page.evaluate("document.querySelector('#results [data-slot=per-class]').data[0]")
    assert bars["y"][:2] == ["arrow", "circle"]
    assert len(bars["y"]) == len(bars["x"]) == 10
    cells = page.locator("#results [data-slot=html-table] tbody td:nth-child(2)").all_inner_texts()
    assert cells == bars["text"]
    mean = sum(float(cell.split()[0]) for cell in cells) / 10
    assert abs(mean - accuracy) < 0.2  # every class has the same number of test pictures

    page.get_by_role("button", name="Show the test pictures").click()
    expect(page.locator(f"{GALLERY} figure")).to_have_count(24, timeout=SOON)
    for caption in page.locator(f"{GALLERY} figcaption").all():
        truth, said = caption.locator("b").all_inner_texts()
        assert ("✓" in caption.inner_text()) == (truth == said)
    first = page.locator(f"{GALLERY} figcaption").first.inner_text()
    page.get_by_role("button", name="Later").click()
    expect(page.locator(f"{GALLERY} figcaption").first).not_to_have_text(first, timeout=SOON)
    pair = page.locator("#results [data-action=cell]").first
    truth, said, count = re.fullmatch(r"(.+) taken for (.+): (\d+)", pair.inner_text()).groups()
    pair.click()
    expect(page.locator(f"{GALLERY} h3")).to_have_text(
        f"{truth} taken for {said}: {count} pictures", timeout=SOON
    )
    expect(page.locator(f"{GALLERY} figure.lab-wrong")).to_have_count(min(int(count), 24))
    click_cell(page, truth, said)
    expect(page.locator(f"{GALLERY} h3")).to_contain_text(f"{truth} taken for {said}")

    page.get_by_role("tab", name="Classify").click()
    page.locator("#picture input[type=file]").set_input_files(picture)
    expect(page.locator("#answer .lab-bars li")).to_have_count(5, timeout=SOON)
    expect(page.locator("#answer .lab-verdict")).not_to_be_empty()
    expect(page.locator(".lab-spoken[role=status]")).to_have_text(
        page.locator("#answer .lab-verdict").text_content(), timeout=SOON
    )
    expect(page.locator("#answer .lab-class").first).to_have_text("star")

    expect(page.locator("#answer .lab-heat")).to_have_count(2)  # what it sees, and why
    page.locator("#answer .lab-enlarge").last.press("Enter")
    large = page.locator("dialog.lab-enlarged img")
    expect(large).to_be_visible()
    assert large.evaluate("i => i.naturalWidth") == 240  # the picture's own resolution
    page.keyboard.press("Escape")
    expect(large).to_have_count(0)
    before = page.locator("#answer .lab-sees img").get_attribute("src")
    page.get_by_role("button", name="Choose the part that counts").click()
    box = page.locator("#frame .lab-frame-box")
    page.locator("#frame input").fill("0.5")
    expect(page.locator("#answer .lab-sees img")).not_to_have_attribute("src", before, timeout=SOON)
    smaller = page.locator("#answer .lab-sees img").get_attribute("src")
    at = box.bounding_box()
    page.mouse.move(at["x"] + at["width"] / 2, at["y"] + at["height"] / 2)
    page.mouse.down()
    page.mouse.move(at["x"], at["y"], steps=4)
    page.mouse.up()
    expect(page.locator("#answer .lab-sees img")).not_to_have_attribute("src", smaller, timeout=SOON)
    moved = page.locator("#answer .lab-sees img").get_attribute("src")
    page.get_by_role("button", name="Try to break it").click()
    page.get_by_label("number input for Noise").fill("60")
    page.get_by_label("number input for Noise").press("Enter")
    expect(page.locator("#answer .lab-sees img")).not_to_have_attribute("src", moved, timeout=SOON)
    page.get_by_role("button", name="As it was").click()
    expect(page.locator("#answer .lab-sees img")).to_have_attribute("src", moved, timeout=SOON)
    choose(page, "classify-class", "ring")
    expect(page.locator("#answer")).to_contain_text("what speaks for ring", timeout=SOON)

    noise = page.get_by_label("number input for Noise")
    noise.fill("60")
    noise.press("Enter")
    page.locator("#examples button").first.click()
    expect(noise).to_have_value("0", timeout=SOON)  # another picture is shown as it is

    page.get_by_role("button", name="Many pictures at once").click()
    page.locator("#many-files input[type=file]").set_input_files(picture)
    listed = page.locator("#many-files tbody")  # the page sets the ending of a name apart
    expect(listed).to_contain_text(re.compile(r"star\s*\.png"), timeout=SOON)
    page.locator("#many-start").click()
    expect(page.locator("#many tbody tr")).to_have_count(1, timeout=SOON)
    with page.expect_download() as download:
        page.locator("#many-csv").click()
    assert download.value.path().read_text().startswith("file,error,Simple CNN label")

    folder = tmp_path / "holiday"
    (folder / "day 2").mkdir(parents=True)
    for name in ("a.png", "b.png", "day 2/c.png"):
        (folder / name).write_bytes(picture.read_bytes())
    page.locator("input[webkitdirectory]").set_input_files(folder)
    expect(listed).to_contain_text(re.compile(r"c\s*\.png"), timeout=SOON)
    page.locator("#many-start").click()
    expect(page.locator("#many tbody tr")).to_have_count(3, timeout=SOON)

    client = Client(url, verbose=False)
    (run,) = [r for r in client.predict(api_name="/list_runs") if r["status"] == "finished"]
    answer = client.predict(handle_file(str(picture)), run["id"], 10, api_name="/classify")
    assert answer["label"] == "star"
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-6)
    report = client.predict(run["id"], api_name="/report")
    assert report["metrics"]["accuracy"] == pytest.approx(accuracy / 100, abs=0.001)


def choose(page: Page, dropdown: str, words: str) -> None:
    """An entry of a dropdown, with the keyboard."""
    box = page.locator(f"#{dropdown} input")
    box.click()
    box.fill(words)
    page.locator(f"#{dropdown} [role=option]").filter(has_text=words).first.click()


def test_two_networks_are_compared_down_to_one_picture(open_page: Callable[..., Page], runs: Path) -> None:
    """The one trained above, and one that is fresh and was never tested."""
    fresh = RunFolder(runs / "20250101-000000-simple-cnn-feed")
    create_run(fresh, make_config())
    classes = read_info(max(runs.glob("*/model.safetensors"))).classes
    info = CheckpointInfo(
        model="simple_cnn", classes=classes, image_size=32, mean=(0.5,) * 3, std=(0.25,) * 3,
        data="Synthetic shapes",
    )  # fmt: skip
    save_checkpoint(fresh.model_file, create_model("simple_cnn").state_dict(), info)

    page = open_page()
    page.get_by_role("tab", name="Results").click()
    choose(page, "results-choice", fresh.id[:15])
    expect(page.locator("#results .lab-empty")).to_contain_text("Not tested", timeout=SOON)
    page.get_by_role("button", name="Test it now").click()
    expect(page.locator("#results .lab-big")).to_have_text(re.compile(r"^\d+\.\d %$"), timeout=60_000)
    choose(page, "results-other", "quick")
    expect(page.locator("#results .lab-second")).to_contain_text("with probability below", timeout=SOON)
    expect(page.locator("#results [data-slot=html-table]")).to_contain_text("Difference")
    only = page.locator("#results [data-action=second]")
    count = int(only.inner_text().split()[-1].replace(",", ""))
    only.click()
    expect(page.locator(f"{GALLERY} h3")).to_contain_text(f"{count:,} pictures that only the second")
    expect(page.locator(f"{GALLERY} figure.lab-wrong")).to_have_count(24)  # wrong for the first

    page.locator(f"{GALLERY} figure button").first.click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("section h4")).to_have_count(2, timeout=SOON)
    expect(dialog.locator("section").first.locator(".lab-heat")).to_have_count(2)
    expect(dialog.locator("section").last.locator(".lab-heat")).to_have_count(1)
    expect(dialog.locator("section").last.locator(".lab-bars li")).to_have_count(10)
    assert dialog.locator(".lab-heat img").first.evaluate("image => image.naturalWidth") > 100
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    page.locator(f"{GALLERY} figure button").first.press("Enter")
    expect(dialog.locator("section h4")).to_have_count(2, timeout=SOON)
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_have_count(0)

    page.get_by_role("button", name="Measure the speed").click()
    expect(page.locator("#results .lab-table").last).to_contain_text(
        re.compile(r"652 K\D*[\d,]{3,}"), timeout=SOON
    )
    shutil.rmtree(fresh.path)


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


def test_two_tabs_see_and_steer_the_same_trainings(
    open_page: Callable[..., Page], url: str, runs: Path
) -> None:
    page = open_page()
    start_training(page, epochs=5000)
    wait_for_points(page, 0)
    other = open_page()
    wait_for_points(other, 0)

    start_training(other, epochs=3)  # waits in line
    expect(status(other)).to_contain_text("queued", timeout=SOON)
    expect(other.locator("#live .lab-facts")).to_contain_text("number 1 in line")
    expect(status(page)).to_contain_text("running")  # the other page's choice changed nothing here
    first, second = (page.locator(f"#runs tbody tr:nth-child({n})") for n in (2, 1))
    expect(second).to_contain_text("queued", timeout=SOON)

    press(page, "pause")
    expect(status(page)).to_contain_text("paused", timeout=SOON)
    expect(status(other)).to_contain_text("finished", timeout=120_000)
    press(page, "resume")
    expect(status(page)).to_contain_text("running", timeout=SOON)
    page.evaluate("""() => {  // a chart that fails once is drawn again, whole
      const { extendTraces } = window.Plotly;
      window.Plotly.extendTraces = () => {
        Object.assign(window.Plotly, { extendTraces, failed: true });
        throw new Error('once');
      };
    }""")
    wait_until(page, "window.Plotly.failed")
    wait_for_points(page, points(page))
    steps = page.evaluate("document.querySelector('#live [data-slot=loss]').data[0].x")
    assert steps == list(range(steps[0], steps[-1] + 1, steps[0]))

    expect(page.locator("#live [data-action=delete]")).to_have_count(0)  # never while it runs
    wait_until(page, "document.querySelector('#live [data-slot=accuracy]').data[0]?.y.length > 0")  # an epoch
    press(page, "stop")
    expect(status(page)).to_contain_text("stopped", timeout=SOON)
    assert Client(url, verbose=False).predict(api_name="/list_runs")[1]["status"] == "stopped"

    first.get_by_role("checkbox").check()
    second.get_by_role("checkbox").check()
    wait_until(page, "document.querySelector('#compare [data-slot=compare-accuracy]')?.data?.length === 2")
    expect(page.get_by_role("radio", name="epochs")).to_be_visible()
    page.get_by_role("searchbox", name="Filter").fill("stopped")
    expect(page.locator("#runs tbody tr")).to_have_count(1)
    page.get_by_role("searchbox", name="Filter").fill("")

    with page.expect_download() as download:
        page.get_by_role("button", name="Curves (CSV)").click()
    assert download.value.path().read_text().startswith("type,time,step")
    page.get_by_role("button", name="Command").click()
    expect(page.locator("#live [data-part=command]")).to_contain_text(
        "python -m core train --model simple_cnn"
    )
    press(page, "clone")
    expect(page.get_by_label("Epochs", exact=True)).to_have_value("5000", timeout=SOON)

    before = len(list(runs.glob("*/config.json")))
    press(page, "delete")
    expect(page.locator("#live [data-action=delete]")).to_have_text("Really delete?")
    assert len(list(runs.glob("*/config.json"))) == before
    press(page, "delete")
    expect(page.locator("#runs tbody tr")).to_have_count(before - 1, timeout=SOON)
    assert len(list(runs.glob("*/config.json"))) == before - 1


def test_a_zip_becomes_a_data_set_and_is_trained_on(
    open_page: Callable[..., Page], tmp_path: Path, runs: Path
) -> None:
    archive = tmp_path / "my fruits.zip"
    with zipfile.ZipFile(archive, "w") as out:
        for kind, shade in (("apple <b>", 200), ("plum", 60)):
            for number in range(60):
                file = io.BytesIO()
                Image.new("RGB", (40, 30), (shade, number, 90)).save(file, "PNG")
                out.writestr(f"{kind}/{number}.png", file.getvalue())
    page = open_page()
    page.get_by_role("button", name="Your own pictures").click()
    page.locator("#archive input[type=file]").set_input_files(archive)
    name = page.get_by_label("Keep it as")
    expect(name).to_have_value("my fruits", timeout=SOON)
    page.locator("#add-data").click()
    expect(page.locator("#added")).to_contain_text("'my fruits' is now a data set", timeout=SOON)
    expect(page.locator("#about-data")).to_contain_text("2 classes", timeout=SOON)
    expect(page.get_by_label("Data", exact=True)).to_have_value("my fruits")
    start_training(page, epochs=2, usual="8")
    expect(page.locator("#live .lab-head")).to_contain_text("my fruits", timeout=SOON)
    expect(status(page)).to_contain_text("finished", timeout=120_000)
    expect(page.locator("#live .lab-strip")).to_contain_text("apple <b>", timeout=SOON)
    run = max(runs.glob("*/config.json")).parent
    page.locator("#remove-data").click()
    expect(page.get_by_label("Data", exact=True)).to_have_value("Synthetic shapes", timeout=SOON)
    assert (run / "model.safetensors").exists()


def test_the_app_is_killed_and_the_training_is_found_again(browser: Browser, tmp_path: Path) -> None:
    port, folder = free_port(), tmp_path / "runs"
    app = start_app(port, folder)
    try:
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{port}")
        start_training(page, epochs=5000)
        wait_for_points(page, 0)
        app.kill()
        app.wait(10)
        (run,) = (RunFolder(path.parent) for path in folder.glob("*/config.json"))
        size = run.events_file.stat().st_size
        time.sleep(1)
        assert run.has_worker()
        assert run.events_file.stat().st_size > size  # it goes on without the app
        app = start_app(port, folder)
        page.reload()
        wait_for_points(page, wait_for_points(page, 0))
        expect(status(page)).to_contain_text("running")
        press(page, "stop")
        expect(status(page)).to_contain_text("stopped", timeout=SOON)
        page.close()
    finally:
        app.terminate()
        app.wait(10)
        end_workers(folder)
    steps = [e["step"] for e in settle(read_events(run.events_file)[0]) if e["type"] == "step"]
    assert steps == list(range(steps[0], steps[-1] + 1, steps[0]))  # none lost, none doubled


def test_a_batch_can_be_cancelled_and_addresses_are_not_fetched(
    browser: Browser, tmp_path: Path, picture: Path
) -> None:
    port = free_port()
    app = start_app(port, tmp_path / "runs", "--checkpoints", str(ROOT / "checkpoints"))
    page = browser.new_page()
    try:
        page.goto(f"http://127.0.0.1:{port}")
        page.get_by_role("tab", name="Classify").click()
        expect(page.locator("#classify-choice input")).not_to_have_value("", timeout=SOON)
        page.get_by_role("button", name="Many pictures at once").click()
        files = page.locator("#many-files input[type=file]")
        with zipfile.ZipFile(tmp_path / "many.zip", "w") as file:
            for i in range(3000):
                file.write(picture, f"{i}.png")
        files.set_input_files(tmp_path / "many.zip")
        expect(page.locator("#many-files tbody")).to_contain_text("many", timeout=SOON)
        for _ in range(3):
            page.locator("#many-start").click()
            expect(page.locator("#many")).to_contain_text("/ 3,000", timeout=SOON)
            expect(page.locator("#many-start")).to_be_hidden()
            page.locator("#many-cancel").click()
            expect(page.locator("#many")).to_have_text("Cancelled.", timeout=SOON)
            expect(page.locator("#many-cancel")).to_be_hidden()
        page.wait_for_timeout(1500)
        expect(page.locator("#many")).to_have_text("Cancelled.")

        client = Client(f"http://127.0.0.1:{port}", verbose=False)
        address = {"path": "http://example.org/a.png", "meta": {"_type": "gradio.FileData"}}
        with pytest.raises(AppError, match="not fetched"):
            client.predict(address, "simple_cnn", 3, api_name="/classify")
        with pytest.raises(AppError, match="not fetched"):  # where a file has no business either
            client.predict(handle_file(str(picture)), address, 3, api_name="/classify")
        with pytest.raises(AppError, match="how many classes"):
            client.predict(handle_file(str(picture)), "simple_cnn", "x", api_name="/classify")
    finally:
        page.close()
        app.terminate()
        app.wait(10)


def test_with_mcp_the_api_is_offered_as_tools(tmp_path: Path) -> None:
    port = free_port()
    app = start_app(port, tmp_path / "runs", "--mcp", "--checkpoints", str(ROOT / "checkpoints"))

    async def ask_tool(image: str) -> tuple[bool, str]:
        address = f"http://127.0.0.1:{port}/gradio_api/mcp/"
        async with streamablehttp_client(address) as (read, write, _), ClientSession(read, write) as session:
            await session.initialize()
            arguments = {"image": image, "checkpoint": "simple_cnn", "top": 2}
            said = await session.call_tool("classify_picture", arguments)
            return said.isError, said.content[0].text

    def ask(image: str) -> tuple[bool, str]:
        """In a thread of its own: Playwright's loop runs in this one."""
        with ThreadPoolExecutor(1) as beside:
            return beside.submit(asyncio.run, ask_tool(image)).result()

    try:
        ship = (ROOT / "demo/examples/ship.png").read_bytes()
        failed, words = ask(f"data:image/png;base64,{base64.b64encode(ship).decode()}")
        assert not failed
        assert "'verdict'" in words
        failed, words = ask("http://example.org/a.png")
        assert failed
        assert "not fetched" in words
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/gradio_api/mcp/schema", timeout=20) as answer:
            tools = {tool["meta"]["endpoint_name"]: tool for tool in json.load(answer)}
    finally:
        app.terminate()
        app.wait(10)
    assert set(tools) == {
        "classify", "start_training", "pause_training", "resume_training", "stop_training", "list_runs",
        "run_status", "report",
    }  # fmt: skip
    assert tools["classify"]["inputSchema"]["required"] == ["image", "checkpoint"]
    assert all(tool["description"] for tool in tools.values())


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_screen(open_page: Callable[..., Page], width: int, theme: str) -> None:
    page = open_page(width, theme)
    for tab in ("Train", "Results", "Classify"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(400)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, tab


def test_the_first_start_shows_the_shipped_networks(browser: Browser, tmp_path: Path) -> None:
    """Without any data or training: curves, results, an answer, and the offer to go on from them."""
    port = free_port()
    app = start_app(port, tmp_path / "runs", "--checkpoints", str(ROOT / "checkpoints"))
    page = browser.new_page()
    try:
        page.goto(f"http://127.0.0.1:{port}")
        expect(page.locator("#runs tr[data-run]").first).to_contain_text("shipped", timeout=SOON)
        wait_until(page, f"n => ({COUNT_POINTS}) > n", 100, SOON)
        expect(page.locator("#live [data-action=delete]")).to_have_count(0)
        page.get_by_label("Simple CNN", exact=False).first.check()
        page.locator("#origin input").click()
        page.get_by_role("option", name="Simple CNN (shipped)").click()
        page.get_by_text("More settings").click()
        page.get_by_label("Epochs", exact=True).fill("2")
        page.locator("#start").click()
        expect(page.locator("#live")).to_contain_text("· synthetic ·", timeout=SOON)
        expect(page.locator("#live")).to_contain_text("finished", timeout=120_000)
        (run,) = [RunFolder(folder) for folder in (tmp_path / "runs").iterdir() if folder.is_dir()]
        assert read_info(run.model_file).origin.file == "simple_cnn.safetensors"

        page.get_by_role("tab", name="Results").click()
        expect(page.locator("#results .lab-big")).to_contain_text("%", timeout=SOON)
        page.wait_for_timeout(1000)  # nothing that comes late may take the second network away again
        expect(page.locator("#results .lab-second")).to_contain_text("Difference")
        expect(page.locator("#results")).to_contain_text("CIFAR-10 (JPEG copy, quality 75)")
        drawn = "document.querySelector('#results [data-slot=compare-accuracy]')?.data?.[0].y.length ?? 0"
        wait_until(page, f"n => ({drawn}) > n", 5, SOON)
        page.locator("#results").get_by_text("Show the test pictures").click()
        expect(page.locator(GALLERY)).to_contain_text("Choose CIFAR-10", timeout=SOON)

        page.get_by_role("tab", name="Classify").click()
        page.locator("#examples img").first.click()
        expect(page.locator("#answer .lab-verdict").first).to_be_visible(timeout=SOON)
    finally:
        page.close()
        app.terminate()
        app.wait(10)
        end_workers(tmp_path / "runs")
