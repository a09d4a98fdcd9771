"""Many visitors at once, and hostile files, over plain HTTP as a program outside would send them."""

import io
import json
import random
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from core.runs import RunFolder
from tests.browser.test_load import memory_mb, start_run, wait_for_steps
from tests.browser.test_page import ROOT, end_workers, free_port, start_app
from tests.demo.test_hostile import hostile_files


@pytest.fixture(scope="module")
def visited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path, int]]:
    """Address, folder of runs and process number of an app with the shipped networks."""
    port, runs = free_port(), tmp_path_factory.mktemp("app") / "runs"
    process = start_app(port, runs, "--checkpoints", str(ROOT / "checkpoints"))
    yield f"http://127.0.0.1:{port}", runs, process.pid
    process.terminate()
    process.wait(10)
    end_workers(runs)


def ask(url: str, network: str, picture: bytes, name: str = "a.png") -> list[str]:
    """Upload a picture and classify it, top ten; the event stream that ends the call, in lines."""

    def post(path: str, body: bytes, kind: str) -> Any:
        request = urllib.request.Request(f"{url}/gradio_api{path}", body, {"Content-Type": kind})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    head = f'--edge\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode()
    body = head + picture + b"\r\n--edge--\r\n"
    (path,) = post("/upload", body, "multipart/form-data; boundary=edge")
    file = {"path": path, "meta": {"_type": "gradio.FileData"}}
    call = json.dumps({"data": [file, network, 10]}).encode()
    event = post("/call/classify", call, "application/json")["event_id"]
    with urllib.request.urlopen(f"{url}/gradio_api/call/classify/{event}", timeout=60) as stream:
        return stream.read().decode().splitlines()


class Visitor:
    """Asks about one picture of its own, again and again."""

    def __init__(self, url: str, network: str, number: int) -> None:
        self.url, self.network = url, network
        self.answers = 0
        picture = io.BytesIO()
        pixels = random.Random(number).randbytes(8 * 8 * 3)
        Image.frombytes("RGB", (8, 8), pixels).resize((300, 200)).save(picture, "PNG")
        self.picture = picture.getvalue()
        self.first = self.ask()

    def ask(self) -> str:
        lines = ask(self.url, self.network, self.picture)
        assert lines[0] == "event: complete", lines
        return lines[1]

    def go_on(self, until: float) -> None:
        """Ask until then; every answer has to be the first one."""
        while time.monotonic() < until:
            assert self.ask() == self.first
            self.answers += 1


def visit(url: str, network: str, seconds: float, clients: int = 32) -> int:
    """So many visitors at once, each with a picture of its own; returns how many answers they got."""
    visitors = [Visitor(url, network, number) for number in range(clients)]
    assert len({visitor.first for visitor in visitors}) == clients
    until = time.monotonic() + seconds
    with ThreadPoolExecutor(clients) as pool:
        for done in [pool.submit(visitor.go_on, until) for visitor in visitors]:
            done.result()
    assert min(visitor.answers for visitor in visitors) > 0
    return sum(visitor.answers for visitor in visitors)


def test_visitors_at_once_get_their_own_answers(visited: tuple[str, Path, int]) -> None:
    url, _, _ = visited
    assert visit(url, "simple_cnn", 4) >= 32


def test_hostile_files_over_http_get_an_answer_or_one_sentence(visited: tuple[str, Path, int]) -> None:
    url, _, pid = visited
    before = memory_mb(pid)
    ends = {"complete": 0, "error": 0}
    for name, content in list(hostile_files())[::8]:
        start = time.monotonic()
        plain = "".join(c for c in name if c.isprintable() and c not in '"\\')  # as a header can carry it
        lines = ask(url, "simple_cnn", content, plain)
        ends[lines[0].removeprefix("event: ")] += 1
        assert "Traceback" not in "".join(lines)
        assert "/tmp" not in "".join(lines)
        assert time.monotonic() - start < 5
    assert min(ends.values()) > 5
    assert memory_mb(pid) - before < 300


@pytest.mark.timing
@pytest.mark.timeout(600)
def test_the_app_bears_32_visitors_for_a_minute_and_beside_a_training(visited: tuple[str, Path, int]) -> None:
    url, runs, pid = visited
    network = sorted(p.stem for p in (ROOT / "checkpoints").glob("*.safetensors"))[0]
    visit(url, network, 10)
    before = memory_mb(pid)
    answers = visit(url, network, 60)
    grown = memory_mb(pid) - before
    run = RunFolder(runs / start_run(url))
    wait_for_steps(run, 5)
    beside = visit(url, network, 30)
    print(f"{network}: {answers / 60:.0f} answers/s, {grown:+.0f} MB; beside a training {beside / 30:.0f}/s")
    assert grown < 100
