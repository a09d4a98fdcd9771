"""How long answers take with the shipped networks, on the server's side; run alone with -m timing."""

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageChops

from core.device import prepare_for_serving
from core.inference.batch import classify_many
from core.inference.classifier import view
from demo.answers import Question, answer, read_file, show_answers
from demo.lab import Lab
from tests.browser.test_page import ROOT

NETWORKS = ("resnet18", "densenet121_k12")

pytestmark = pytest.mark.timing


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    threads = torch.get_num_threads()
    prepare_for_serving()
    yield Lab(tmp_path / "runs", shipped=ROOT / "checkpoints")
    torch.set_num_threads(threads)


def photograph(path: Path, width: int, height: int) -> Path:
    """A JPEG as large as a camera's: smooth shapes with fine grain."""
    chance = random.Random(width)
    shapes = Image.frombytes("RGB", (32, 24), chance.randbytes(32 * 24 * 3)).resize((width, height))
    grain = Image.effect_noise((width, height), 12).convert("RGB")
    ImageChops.add(shapes, grain, offset=-128).save(path, "JPEG", quality=90)
    return path


def percentiles(ask: Callable[[], object], times: int) -> tuple[float, float]:
    """Half of the calls, and 99 of a hundred, take no more than so many milliseconds."""
    ask()
    taken = []
    for _ in range(times):
        begin = time.perf_counter()
        ask()
        taken.append(1000 * (time.perf_counter() - begin))
    taken.sort()
    return taken[times // 2], taken[times * 99 // 100]


@pytest.mark.parametrize(("size", "half"), [((1152, 864), 60), ((4000, 3000), 350)])
def test_both_networks_answer_quickly(lab: Lab, tmp_path: Path, size: tuple[int, int], half: float) -> None:
    path, question = str(photograph(tmp_path / "a.jpg", *size)), Question(NETWORKS)

    def ask() -> None:
        image = read_file(path)
        list(lab.beside.map(lambda name: answer(lab, name, image, question), NETWORKS))

    median, slowest = percentiles(ask, 200)
    heat, _ = percentiles(lambda: show_answers(lab, read_file(path), question), 50)
    print(f"{size}: p50 {median:.0f} ms, p99 {slowest:.0f} ms; with heat maps p50 {heat:.0f} ms")
    assert median < half
    assert slowest < half + 90
    assert heat < 250


@pytest.mark.parametrize("name", NETWORKS)
def test_a_batch_is_nearly_as_fast_as_the_bare_network(lab: Lab, tmp_path: Path, name: str) -> None:
    checkpoint, count = lab.checkpoint(name), 512
    path = photograph(tmp_path / "a.jpg", 640, 480)
    views = view(read_file(str(path)), checkpoint.info.image_size)[None].expand(64, -1, -1, -1)
    batch = views.float().contiguous(memory_format=torch.channels_last)

    def bare() -> float:
        begin = time.perf_counter()
        with torch.no_grad():
            for _ in range(count // len(batch)):
                checkpoint.model(batch)
        return count / (time.perf_counter() - begin)

    def many() -> float:
        pictures = ((f"{number}.jpg", lambda: path) for number in range(count))
        begin = time.perf_counter()
        assert all(found.answers for found in classify_many([checkpoint], pictures))
        return count / (time.perf_counter() - begin)

    bare(), many()
    turns = [(many(), bare()) for _ in range(3)]
    ratios = sorted(ours / theirs for ours, theirs in turns)
    print(f"{name}: a batch at {turns[0][0]:.0f} images/s, {ratios[1]:.2f} of the bare network, {ratios}")
    assert ratios[1] >= 0.8
