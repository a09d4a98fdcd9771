"""What following a run costs, and that nothing is lost on the way: over plain HTTP, as the page does it."""

import json
import random
import statistics
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client
from playwright.sync_api import expect, sync_playwright

from core.runs import RunFolder, create_run, read_events
from core.runs.log import settle
from tests.browser.test_page import CHROMIUM, FLAGS, end_workers, free_port, start_app
from tests.conftest import make_config

POLL = 0.5  # seconds, as the page does


class Follower:
    """Polls a run as the page does, and keeps the loss curve's points."""

    def __init__(self, url: str, run_id: str) -> None:
        with urllib.request.urlopen(f"{url}/config") as answer:
            parts = json.load(answer)["components"]
        self._live = next(part["id"] for part in parts if part["props"].get("elem_id") == "live")
        self._url, self._run, self._cursor = url, run_id, 0
        self.steps: list[int] = []
        self.bytes: list[int] = []

    def poll(self) -> dict[str, Any]:
        body = {
            "data": {"source": self._run, "cursor": self._cursor},
            "component_id": self._live, "fn_name": "read", "session_hash": "follower",
        }  # fmt: skip
        request = urllib.request.Request(
            f"{self._url}/gradio_api/component_server",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=20) as response:
            raw = response.read()
        answer = json.loads(raw)
        self.bytes.append(len(raw))
        self._cursor = answer["cursor"]
        if "figures" in answer:
            traces = answer["figures"]["loss"]["data"]
            self.steps = list(traces[0]["x"]) if traces else []
        self.steps += answer.get("append", {}).get("loss", {}).get("0", {}).get("x", [])
        return answer

    def follow(self, until: threading.Event) -> None:
        while not until.wait(POLL):
            self.poll()


@pytest.fixture
def app(tmp_path: Path) -> Iterator[tuple[str, Path, int]]:
    """Address, folder of runs and process number of an app."""
    port, runs = free_port(), tmp_path / "runs"
    process = start_app(port, runs)
    yield f"http://127.0.0.1:{port}", runs, process.pid
    process.terminate()
    process.wait(10)
    end_workers(runs)


def start_run(url: str, epochs: int = 9000) -> str:
    client = Client(url, verbose=False)
    return client.predict("simple_cnn", "Synthetic shapes", "fast", epochs, 0, api_name="/start_training")


def steps_of(run: RunFolder) -> list[int]:
    return [e["step"] for e in settle(read_events(run.events_file)[0]) if e["type"] == "step"]


def wait_for_steps(run: RunFolder, count: int = 1, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while len(steps_of(run)) < count:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def memory_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def test_ten_followers_see_every_point(app: tuple[str, Path, int]) -> None:
    url, runs, pid = app
    idle = memory_mb(pid)
    run = RunFolder(runs / start_run(url, epochs=800))
    wait_for_steps(run)
    done = threading.Event()
    followers = [Follower(url, run.id) for _ in range(10)]
    threads = [threading.Thread(target=follower.follow, args=(done,)) for follower in followers]
    for thread in threads:
        thread.start()
    time.sleep(12)
    done.set()
    for thread in threads:
        thread.join()
    grown = memory_mb(pid) - idle
    end_workers(runs)
    logged = steps_of(run)
    assert len(logged) > 50
    for follower in followers:
        follower.poll()
        assert follower.steps == logged
        assert max(follower.bytes[1:]) < 6_000
    print(f"{len(logged)} points, the app grew by {grown:.0f} MB")
    assert grown < 400


@pytest.mark.timing
def test_a_training_that_is_followed_keeps_its_speed(app: tuple[str, Path, int]) -> None:
    url, runs, _ = app
    run = RunFolder(runs / start_run(url))
    wait_for_steps(run, 5)
    follower = Follower(url, run.id)
    follower.poll()

    def speed(followed: bool, seconds: float = 8) -> float:
        begin, first = time.monotonic(), steps_of(run)[-1]
        stop = threading.Event()
        thread = threading.Thread(target=follower.follow, args=(stop,))
        if followed:
            thread.start()
        time.sleep(seconds)
        steps, spent = steps_of(run)[-1] - first, time.monotonic() - begin
        stop.set()
        if followed:
            thread.join()
        return steps / spent

    ratios = []
    for _ in range(5):
        alone = speed(followed=False)
        ratios.append(speed(followed=True) / alone)
    print(f"speed while followed: {statistics.median(ratios):.3f} of alone, each {ratios}")
    assert statistics.median(ratios) >= 0.97


@pytest.mark.timing
@pytest.mark.timeout(600)
def test_the_app_killed_at_ten_moments_finds_its_run_again(tmp_path: Path) -> None:
    port, runs, chance = free_port(), tmp_path / "runs", random.Random(7)
    url = f"http://127.0.0.1:{port}"
    app = start_app(port, runs)
    try:
        run = RunFolder(runs / start_run(url))
        wait_for_steps(run)
        for _ in range(10):
            time.sleep(chance.uniform(0, 2))
            app.kill()
            app.wait(10)
            had = len(steps_of(run))
            app = start_app(port, runs)
            found = Client(url, verbose=False).predict(run.id, api_name="/run_status")
            assert found["status"] == "running"
            wait_for_steps(run, had + 1)
    finally:
        app.kill()
        app.wait(10)
        end_workers(runs)
    steps = steps_of(run)
    assert steps == list(range(steps[0], steps[-1] + 1, steps[0]))


@pytest.mark.timing
def test_the_page_opens_quickly_with_a_thousand_runs(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for number in range(1000):
        run = RunFolder(runs / f"20260101-000000-simple-cnn-{number:04x}")
        create_run(run, make_config())
        status = {"type": "status", "time": 1.0, "status": "stopped", "reason": ""}
        run.events_file.write_text(json.dumps(status) + "\n")
    port = free_port()
    app = start_app(port, runs)
    try:
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            opened, filled = [], []
            for _ in range(3):
                page = chromium.new_page()
                begin = time.monotonic()
                page.goto(f"http://127.0.0.1:{port}")
                expect(page.get_by_role("button", name="Start training")).to_be_enabled(timeout=30_000)
                opened.append(time.monotonic() - begin)
                expect(page.locator("#runs tbody tr")).to_have_count(1000, timeout=30_000)
                filled.append(time.monotonic() - begin)
                page.close()
            chromium.close()
    finally:
        app.terminate()
        app.wait(10)
    print(f"page of 1,000 runs: usable after {opened} s, its table filled after {filled} s")
    assert statistics.median(opened) < 2
