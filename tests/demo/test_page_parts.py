"""What the page's handlers answer, without a browser."""

import csv
import gc
import io
import json
import os
import shlex
import shutil
import tempfile
import threading
import time
import weakref
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
import torch
from PIL import Image

from core import InputError
from core.checkpoint import CheckpointInfo, save_checkpoint
from core.data import DataSet, ImageSet, load_data, pictures
from core.data.pictures import WHOLE, Frame
from core.evaluation import Report, evaluate_checkpoint, make_report
from core.inference import Answer, Distortion
from core.models import create_model
from core.runs import RunFolder, create_run, list_runs
from core.runs.glimpse import filter_sheet, side_by_side
from core.runs.ship import ship_curves
from core.training.recipe import Recipe, TrainConfig, with_changes
from core.training.trainer import Trainer
from demo import charts, live, many, text
from demo.answers import Question, together
from demo.evaluations import Predictions, evaluate_in_background, job_key, stored_predictions
from demo.frame_picker import FramePicker
from demo.gallery import Look, choose, gallery
from demo.inputs import Choice, Count, Dial
from demo.lab import MAX_LOADED_MODELS, Lab
from demo.many import classify_files
from demo.page import build_page
from demo.report_view import costs_table, show_results
from demo.run_table import Rows
from demo.tabs import classify, results, train
from demo.uploads import Uploads
from tests.conftest import make_config

RUN = "20260101-000000-simple-cnn-abcd"


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path / "runs", shipped=tmp_path / "checkpoints")


def show_answer(lab: Lab, picture: str, question: Question) -> str:
    return classify.show_answer(lab, picture, question)[0]


def write_run(lab: Lab, steps: int = 5, run_id: str = RUN) -> RunFolder:
    folder = RunFolder(lab.runs_dir / run_id)
    create_run(folder, make_config())
    events: list[dict[str, Any]] = [
        {"type": "status", "time": 1.0, "status": "running", "reason": "preparing"},
        {
            "type": "start",
            "time": 1.0,
            "config": make_config().model_dump(mode="json"),
            "device": "CPU, 2 threads",
            "steps_total": steps,
            "classes": ["a", "b"],
            "samples": [0, 1],
            "data": {"name": "Synthetic shapes"},
        },
    ]
    events += [step(i) for i in range(1, steps + 1)]
    folder.events_file.write_text("".join(json.dumps(e) + "\n" for e in events))
    return folder


def step(number: int) -> dict[str, Any]:
    return {
        "type": "step", "time": 1.0, "step": number, "epoch": 1, "loss": 2.0, "lr": 0.1,
        "images_per_second": 100.0,
    }  # fmt: skip


def test_the_feed_sends_all_once_and_then_only_what_is_new(lab: Lab) -> None:
    folder = write_run(lab)
    first = live.read_run(lab, {"source": RUN, "cursor": 0})
    assert first["figures"]["loss"]["data"][0]["x"] == [1, 2, 3, 4, 5]
    nothing = live.read_run(lab, {"source": RUN, "cursor": first["cursor"]})
    assert "figures" not in nothing
    assert "append" not in nothing
    with open(folder.events_file, "a") as file:
        file.write(json.dumps(step(6)) + "\n" + '{"type": "step", "torn')
    more = live.read_run(lab, {"source": RUN, "cursor": first["cursor"]})
    assert more["append"]["loss"]["0"]["x"] == [6]


def epoch(number: int, steps_per_epoch: int, classes: list[str]) -> dict[str, Any]:
    return {
        "type": "epoch", "time": 1.0, "epoch": number, "step": number * steps_per_epoch,
        "train_loss": 1.5, "train_accuracy": 0.51234, "test_loss": 1.6, "test_accuracy": 0.49876,
        "per_class_accuracy": dict.fromkeys(classes, 0.123456), "samples": [[i, 0.5] for i in range(10)],
        "seconds": 12.5,
    }  # fmt: skip


def on_the_wire(answer: dict[str, Any]) -> int:
    """Bytes, as gradio sends it."""
    return len(json.dumps(answer, separators=(",", ":"), ensure_ascii=False).encode())


def test_a_run_of_a_million_steps_opens_at_once_and_updates_are_small(lab: Lab) -> None:
    """As the trainer logs it: steps thinned to 10,000, each of 2,560 epochs with ten classes."""
    folder = write_run(lab, steps=0)
    classes = [f"class-{i}" for i in range(10)]
    start = json.loads(folder.events_file.read_text().splitlines()[1])
    start |= {"steps_total": 1_000_000, "classes": classes, "samples": list(range(10))}
    per_epoch, lines = 390, [start]
    for number in range(100, 1_000_001, 100):
        lines.append(step(number) | {"loss": 2.3026 - number / 1e6, "images_per_second": 12345.678})
        if number % per_epoch < 100:
            lines.append(epoch(number // per_epoch, per_epoch, classes))
    folder.events_file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    side_by_side(torch.randint(0, 256, (10, 3, 32, 32), dtype=torch.uint8)).save(folder.samples_file)
    filter_sheet(torch.randn(64, 3, 3, 3)).save(folder.filters_file, optimize=True)
    times = []
    for _ in range(3):  # the quickest counts: others may use the machine
        begin = time.perf_counter()
        first = live.read_run(lab, {"source": RUN, "cursor": 0})
        times.append(time.perf_counter() - begin)
    assert len(first["figures"]["loss"]["data"][0]["x"]) >= 1000
    assert on_the_wire(first) < 150_000
    assert min(times) < 1
    with open(folder.events_file, "a") as file:  # half a second of a fast network, and the end of an epoch
        file.write("".join(json.dumps(step(1_000_000 + i)) + "\n" for i in range(1, 100)))
        file.write(json.dumps(epoch(2565, per_epoch, classes)) + "\n")
    more = live.read_run(lab, {"source": RUN, "cursor": first["cursor"]})
    assert more["append"]["classes"]["9"]["x"] == [2565]
    assert on_the_wire(more) < 6_000
    assert set(more["parts"]) == {f"s{i}" for i in range(10)}


def test_a_thousand_runs_are_listed_at_once(lab: Lab) -> None:
    for number in range(1000):
        run = write_run(lab, steps=3, run_id=f"20260101-000000-simple-cnn-{number:04x}")
        with open(run.events_file, "a") as file:
            file.write(json.dumps(epoch(1, 3, ["a", "b"])) + "\n")
            file.write(json.dumps({"type": "status", "time": 2.0, "status": "stopped", "reason": ""}) + "\n")
    (lab.runs_dir / "half-written-run").mkdir()
    begin = time.perf_counter()
    found = list_runs(lab.runs_dir)
    first = time.perf_counter() - begin
    begin = time.perf_counter()
    assert list_runs(lab.runs_dir) == found
    again = time.perf_counter() - begin
    print(f"first {first * 1000:.0f} ms, again {again * 1000:.0f} ms")
    assert len(found) == 1001
    assert [run.status for run in found].count("unreadable") == 1
    assert again < 0.3
    rows = Rows(lab)
    whole = rows.read({"stamp": 0})
    assert len(whole["rows"]) == 1001
    assert set(rows.read({"stamp": whole["stamp"]})) == {"stamp", "wait"}  # nothing new, nothing sent


def test_the_table_is_told_only_what_changed(lab: Lab) -> None:
    rows = Rows(lab)
    write_run(lab)
    first = rows.read({"stamp": 0})
    other = write_run(lab, run_id="20260101-000001-simple-cnn-abce")
    rows._looked = 0
    second = rows.read({"stamp": first["stamp"]})
    assert [row["id"] for row in second["rows"]] == [other.id]
    shutil.rmtree(other.path)
    rows._looked = 0
    third = rows.read({"stamp": second["stamp"]})
    assert third["rows"] == []
    assert third["ids"] == [RUN]
    for nonsense in (None, {}, {"stamp": "x"}, {"stamp": -1}, {"stamp": 2**52}):
        assert len(rows.read(nonsense)["rows"]) == 1


def test_what_is_exported_repeats_the_run(lab: Lab) -> None:
    folder = write_run(lab)
    table = live.export_run(lab, {"source": RUN, "what": "csv"})["text"].splitlines()
    assert len(table) == 1 + 5
    config = TrainConfig.model_validate_json(live.export_run(lab, {"source": RUN, "what": "json"})["text"])
    assert config == folder.read_config()
    words = shlex.split(live.export_run(lab, {"source": RUN, "what": "command"})["text"])
    changes = dict(w.split("=", 1) for w in words if "=" in w)
    recipe = {name: json.loads(v) if v[0] in '[{0123456789tf-"' else v for name, v in changes.items()}
    assert with_changes(Recipe(), **recipe) == config.recipe
    for nonsense in (None, {"source": RUN}, {"source": "../x", "what": "csv"}, {"source": RUN, "what": "rm"}):
        assert live.export_run(lab, nonsense)["text"] == ""


def test_curves_of_several_runs_are_laid_over_one_another(lab: Lab) -> None:
    ids = [RUN, "20260101-000001-simple-cnn-abce"]
    for run_id in ids:
        with open(write_run(lab, run_id=run_id).events_file, "a") as file:
            file.write(json.dumps(epoch(1, 5, ["a", "b"])) + "\n")
    figures = live.compare_runs(lab, ids, "seconds")["figures"]
    assert [trace["x"] for trace in figures["compare-accuracy"]["data"]] == [[12.5], [12.5]]
    dashes = {trace["line"]["dash"] for trace in figures["compare-loss"]["data"]}
    assert len(dashes) == 2
    with pytest.raises(InputError):
        live.compare_runs(lab, ["../../etc"], "step")


def test_decoding_and_evaluating_tell_how_long_they_go_on(lab: Lab) -> None:
    folder = write_run(lab, steps=0)
    lock = folder.lock()
    with lock.acquire(), open(folder.events_file, "a") as file:
        for second in range(4):
            event = {"type": "progress", "time": 10.0 + second, "stage": "decode", "done": 1000 * second}
            file.write(json.dumps(event | {"total": 60_000}) + "\n")
        file.flush()
        head = live.read_run(lab, {"source": RUN, "cursor": 0})["html"]["html-head"]
    assert "Decoding pictures: 3,000 of 60,000 · 57 s left" in head
    assert 'aria-valuenow="5"' in head


def test_after_a_resume_the_page_draws_anew_without_the_void_steps(lab: Lab) -> None:
    folder = write_run(lab)
    cursor = live.read_run(lab, {"source": RUN, "cursor": 0})["cursor"]
    resumed = {"type": "status", "time": 2.0, "status": "running", "reason": "resumed", "from_step": 4}
    with open(folder.events_file, "a") as file:
        file.write(json.dumps(resumed) + "\n" + json.dumps(step(4)) + "\n")
    answer = live.read_run(lab, {"source": RUN, "cursor": cursor})
    assert answer["figures"]["loss"]["data"][0]["x"] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "request_",
    [
        None,
        7,
        "text",
        [],
        {},
        {"source": RUN},
        {"source": "../../etc/passwd", "cursor": 0},
        {"source": RUN, "cursor": -1},
        {"source": RUN, "cursor": 10**30},
        {"source": RUN, "cursor": 0, "extra": 1},
        {"source": "a" * 10_000, "cursor": 0},
        {"source": {"$ne": 1}, "cursor": 0},
        {"source": "no-such-run-here", "cursor": 0},
    ],
)
def test_the_open_endpoint_answers_nonsense_with_nothing(lab: Lab, request_: Any) -> None:
    answer = live.read_run(lab, request_)
    assert set(answer) == {"cursor", "wait"}


def some_report(classes: list[str], labels: torch.Tensor) -> Report:
    logits = torch.randn(len(labels), len(classes), generator=torch.Generator().manual_seed(0))
    return make_report(logits, labels, classes, model="simple_cnn", data="d", data_fingerprint="f")


def test_names_are_escaped_wherever_they_are_shown(lab: Lab) -> None:
    evil = "<img src=x onerror=alert(1)>"
    folder = RunFolder(lab.runs_dir / RUN)
    config = make_config().model_copy(update={"data": f"/{evil}"})
    create_run(folder, config)
    classes = [evil, "b"]
    info = CheckpointInfo(
        model="simple_cnn", classes=classes, image_size=32, mean=(0.5,) * 3, std=(0.2,) * 3, data=evil,
        hardware=evil,
        metrics=some_report(classes, torch.tensor([0, 0, 0, 0])).model_dump(),
    )  # fmt: skip
    save_checkpoint(folder.model_file, create_model("simple_cnn", 2).state_dict(), info)
    shown = show_results(lab, RUN)["html"]
    head = live.read_run(lab, {"source": RUN, "cursor": 0})["html"]["html-head"]
    picture = Path(__file__).parents[2] / "demo" / "examples" / "star.png"
    answer = show_answer(lab, str(picture), Question((RUN,)))
    for markup in (*shown.values(), head, answer):
        assert "<img src=x" not in markup
    assert "&lt;img" in shown["html-table"]
    assert "&lt;img" in answer
    assert "no images" in show_results(lab, RUN)["figures"]["per-class"]["data"][0]["text"]


@pytest.mark.parametrize("count", [2, 10, 100])
def test_results_of_any_number_of_classes_can_be_drawn(lab: Lab, count: int) -> None:
    """Long names, and a class without test images."""
    classes = [f"class {'of a very long name ' * 3}{i}" for i in range(count)]
    report = some_report(classes, torch.randint(0, count - 1, (500,)))
    folder = RunFolder(lab.runs_dir / RUN)
    create_run(folder, make_config())
    info = CheckpointInfo(
        model="simple_cnn", classes=classes, image_size=32, mean=(0.5,) * 3, std=(0.2,) * 3,
        metrics=report.model_dump(),
    )  # fmt: skip
    save_checkpoint(folder.model_file, create_model("simple_cnn", count).state_dict(), info)
    for order in ("class", "accuracy"):
        shown = show_results(lab, RUN, None, order, True, order == "class")
        bars = shown["figures"]["per-class"]["data"][0]
        assert sorted(bars["y"]) == sorted(classes)
        assert "no images" in bars["text"]
        assert len(shown["figures"]["per-class"]["data"]) == 1  # no course report: other classes
        assert len(shown["figures"]["confusion"]["data"][0]["z"]) == count
    values = [report.per_class_accuracy[c] or 0 for c in bars["y"]]
    assert values == sorted(values)
    table = results.export_report(lab, {"source": RUN, "what": "report-csv"})["text"].splitlines()
    assert len(table) == count + 1
    exported = results.export_report(lab, {"source": RUN, "what": "report-json"})["text"]
    assert Report.model_validate_json(exported) == report
    for nonsense in (None, {}, {"source": "../x", "what": "report-csv"}, {"source": RUN, "what": "x"}):
        assert results.export_report(lab, nonsense) == {"name": "", "text": ""}


def test_a_cell_shows_its_mistakes_surest_first(shapes: DataSet) -> None:
    labels = torch.tensor([0, 0, 0, 0, 1, 1])
    confidence = torch.tensor([0.6, 0.9, 0.8, 0.7, 0.9, 0.55])
    said = torch.tensor([1, 1, 0, 0, 1, 0])
    probabilities = torch.empty(6, 2)
    probabilities[range(6), said] = confidence
    probabilities[range(6), 1 - said] = 1 - confidence
    predictions = Predictions(labels, probabilities)

    def order(look: Look, other: Predictions | None = None) -> list[int]:
        return predictions.mistakes_first(choose(look, predictions, other)).tolist()

    assert order(Look(0, 1)) == [1, 0]
    assert order(Look(0)) == [1, 0, 3, 2]  # then right ones, least sure first
    assert order(Look()) == [1, 0, 5, 3, 2, 4]
    other = Predictions(labels, probabilities.flip(1))
    assert order(Look(only="first"), other) == [3, 2, 4]
    assert order(Look(only="second"), other) == [1, 0, 5]
    markup = gallery(["a", "<b>"], shapes, Look(0, 1), predictions)
    assert "a taken for &lt;b&gt;: 2 pictures" in markup
    assert markup.count("<figure") == 2
    assert gallery(["a", "b"], shapes, Look(1, 1, page=99), predictions).count("<figure") == 1


def test_a_gallery_page_is_small_and_quick(shapes: DataSet) -> None:
    labels = torch.arange(10).repeat(1000)
    many = Predictions(labels, torch.rand(10_000, 10, generator=torch.Generator().manual_seed(0)).softmax(1))
    test = ImageSet(torch.randint(0, 256, (10_000, 3, 32, 32), dtype=torch.uint8), labels)
    data = DataSet(shapes.train, test, shapes.classes, shapes.name, shapes.fingerprint)
    times = []
    for page in (1, 2, 3):
        begin = time.perf_counter()
        markup = gallery(list(shapes.classes), data, Look(3, page=page), many)
        times.append(time.perf_counter() - begin)
        assert len(markup.encode()) < 300_000
    assert min(times) < 0.3


def make_network(lab: Lab, run_id: str, classes: list[str], seed: int = 0) -> None:
    """A run with an untrained network and no report."""
    folder = RunFolder(lab.runs_dir / run_id)
    create_run(folder, make_config())
    info = CheckpointInfo(
        model="simple_cnn", classes=classes, image_size=32, mean=(0.5,) * 3, std=(0.2,) * 3, data="away"
    )
    torch.manual_seed(seed)
    save_checkpoint(folder.model_file, create_model("simple_cnn", len(classes)).state_dict(), info)


def press(lab: Lab, action: str, second: str | None, title: str, look: Look, source: str = "") -> list[Any]:
    pressed = results.Pressed(action=action, source=source)
    return list(results.pressed_on(lab, pressed, RUN, second, title, look))


def test_any_network_is_tested_on_any_data_and_the_result_is_kept(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "runs", str(archive(tmp_path / "fruits.zip", {"apple": 30, "plum": 30})))
    other = "20260101-000000-simple-cnn-bcde"
    make_network(lab, RUN, ["apple", "plum"])
    make_network(lab, other, ["apple", "plum"], seed=1)
    assert "Not tested on the pictures of" in show_results(lab, RUN, title="fruits.zip")["html"]["html-head"]

    updates = press(lab, "evaluate", None, "fruits.zip", Look())
    assert updates[-1][0] is None  # all numbers anew
    shown = Lab(tmp_path / "runs", str(tmp_path / "fruits.zip"))  # another server on the same folder
    report = results.report_of(shown, RUN, "fruits.zip")
    said = stored_predictions(shown, RUN, "fruits.zip")
    assert report.count == len(said.labels) == sum(map(sum, report.confusion_matrix))
    assert report.accuracy == pytest.approx(said.right.double().mean().item())
    data = load_data(lab.sources["fruits.zip"], data_dir=lab.data_dir)
    assert report.accuracy == evaluate_checkpoint(lab.checkpoint(RUN), data)[0].accuracy

    press(lab, "first", other, "fruits.zip", Look())  # asks the other one too
    evaluate_in_background(lab, other, "fruits.zip").finished.wait(60)
    both = show_results(lab, RUN, other, title="fruits.zip")["html"]
    theirs = stored_predictions(lab, other, "fruits.zip")
    only = int((said.right & ~theirs.right).sum())
    first, second = (lab.checkpoints()[name] for name in (RUN, other))
    assert first != second  # though both are simple CNNs
    assert f"Only {first} right: {only}" in both["html-head"]
    assert f"Only {second} right" in both["html-head"]
    ((update, _),) = press(lab, "first", other, "fruits.zip", Look())[-1:]
    assert update["html"]["html-gallery"].count("<figure") == min(only, 24)

    ((update, _),) = press(lab, "picture", other, "fruits.zip", Look(), "0")
    dialog = update["html"]["html-picture"]
    assert dialog.count("<h4>") == 2
    assert dialog.count('class="lab-bars"') == 2
    assert dialog.count('class="lab-heat"') >= 2
    assert press(lab, "picture", other, "fruits.zip", Look(), "999") == []
    ((update, _),) = press(lab, "measure", other, "fruits.zip", Look())
    assert "651 K" in update["html"]["html-costs"]


def test_a_test_on_other_classes_or_an_unknown_set_says_so(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "runs", str(archive(tmp_path / "fruits.zip", {"apple": 30, "plum": 30})))
    make_network(lab, RUN, ["x", "y"])
    (*_, (update, _)) = press(lab, "evaluate", None, "fruits.zip", Look())
    assert "classes of &#x27;fruits.zip&#x27; are not" in update["html"]["html-head"]
    with pytest.raises(InputError):
        press(lab, "evaluate", None, "nowhere", Look())
    with pytest.raises(InputError, match="not on this machine"):
        press(lab, "all", None, "", Look())


def test_a_test_that_is_cancelled_keeps_nothing(
    lab: Lab, shapes: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_network(lab, RUN, list(shapes.classes))
    title, started = "Synthetic shapes", threading.Event()

    def slowly(*args: Any, on_batch: Any, **kwargs: Any) -> None:
        started.set()
        for done in range(1000):
            time.sleep(0.02)
            on_batch(done, 1000)

    monkeypatch.setattr("demo.evaluations.evaluate_checkpoint", slowly)
    monkeypatch.setattr("demo.lab.load_data", lambda *args, **kwargs: shapes)
    job = evaluate_in_background(lab, RUN, title)
    assert evaluate_in_background(lab, RUN, title) is job
    assert started.wait(20)
    lab.cancel(job_key(RUN, title))
    assert job.finished.wait(5)
    assert job.error == text.CANCELLED
    assert stored_predictions(lab, RUN, title) is None


def test_only_names_from_the_list_are_taken(lab: Lab) -> None:
    for name in ("../x", "/etc/passwd", "resnet18/../../x", "", "a" * 61, RUN):
        with pytest.raises(InputError):
            lab.checkpoint_path(name)
    with pytest.raises(InputError):
        lab.source("/etc")
    with pytest.raises(InputError):
        train.start_training(lab, "simple_cnn", "/etc", "quick")


def test_what_a_run_can_do_depends_on_its_state(lab: Lab) -> None:
    folder = write_run(lab)
    actions = live.read_run(lab, {"source": RUN, "cursor": 0})["html"]["html-actions"]
    assert 'data-action="resume"' in actions  # its worker is gone
    assert 'data-action="pause"' not in actions
    folder.queued_file.write_text('{"place": 1, "since": 1}')
    answer = live.read_run(lab, {"source": RUN, "cursor": 0})["html"]
    assert 'data-action="up"' in answer["html-actions"]
    assert "number 1 in line" in answer["html-head"]
    lab.can_train = False
    looking = live.read_run(lab, {"source": RUN, "cursor": 0})["html"]["html-actions"]
    assert "data-action" not in looking
    for action in ("pause", "stop", "resume", "up", "down", "delete"):
        with pytest.raises(InputError, match="look and classify"):
            train.control(lab, action, RUN)


def test_a_server_open_to_others_does_not_train(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "runs", can_train=False)
    with pytest.raises(InputError, match="look and classify"):
        train.start_training(lab, "simple_cnn", "Synthetic shapes", "quick")
    assert not (tmp_path / "runs").exists()


def test_figures_carry_no_template_and_keep_their_zoom_key() -> None:
    figure = charts.loss_figure("run", "resnet18", [1, 2], [2.0, 1.0], [2], [1.5])
    assert "template" not in figure["layout"]
    assert figure["layout"]["uirevision"] == "run"
    assert len(json.dumps(figure)) < 2500


def test_numbers_read_well() -> None:
    assert text.percent(0.93449) == "93.4 %"
    assert text.duration(6720) == "1 h 52 min"
    assert text.duration(75) == "1 min 15 s"
    assert text.duration(8.2) == "8 s"
    assert text.short_count(11_173_962) == "11.2 M"


def archive(path: Path, classes: dict[str, int]) -> Path:
    """A zip of so many small pictures of each class."""
    with zipfile.ZipFile(path, "w") as file:
        for number, (name, count) in enumerate(classes.items()):
            for i in range(count):
                picture = io.BytesIO()
                Image.new("RGB", (40, 40), (number * 60, i * 5, 90)).save(picture, "PNG")
                file.writestr(f"{name}/{i}.png", picture.getvalue())
    return path


def test_an_uploaded_archive_becomes_a_data_set_like_any_other(lab: Lab, tmp_path: Path) -> None:
    job = lab.upload_in_background("My pets", archive(tmp_path / "pets.zip", {"cat": 20, "<b>dog": 10}))
    assert job.finished.wait(30)
    assert job.error is None
    assert lab.source("My pets").endswith("My pets.zip")
    about = lab.uploads.describe("My pets")
    assert "24 training and 6 test images, 2 classes." in about
    assert "&lt;b&gt;dog" in about
    again = Lab(lab.runs_dir)  # another app on the same folder
    assert "My pets" in again.sources
    loaded = again.load_in_background("My pets")
    assert loaded.finished.wait(30)
    assert loaded.data.classes == ("<b>dog", "cat")
    lab.uploads.remove("My pets")
    assert "My pets" not in again.sources
    with pytest.raises(InputError):
        lab.uploads.remove("My pets")


@pytest.mark.parametrize("name", ["", "../x", "a/b", "x" * 41, ".hidden", "Synthetic shapes", "CIFAR-10"])
def test_a_name_that_can_not_be_used_is_refused_and_nothing_kept(lab: Lab, tmp_path: Path, name: str) -> None:
    before = lab.sources
    job = lab.upload_in_background(name, archive(tmp_path / "pets.zip", {"cat": 20, "dog": 10}))
    assert job.finished.wait(30)
    assert job.error
    assert lab.sources == before
    assert not list(lab.data_dir.glob("uploads/*"))


def test_an_archive_that_is_none_is_refused_and_nothing_kept(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("no archive")
    for file in (tmp_path / "text.zip", archive(tmp_path / "one.zip", {"cat": 20})):
        job = lab.upload_in_background("Pets", file)
        assert job.finished.wait(30)
        assert job.error
        assert "Pets" not in lab.sources
        assert not list(lab.data_dir.glob("uploads/*"))


def test_two_networks_answer_with_reasons_and_names_are_escaped(lab: Lab, picture: Path) -> None:
    other = "20260101-000000-simple-cnn-bcde"
    make_network(lab, RUN, ["<b>x", "y"])
    make_network(lab, other, ["<b>x", "y"], seed=1)
    shown = show_answer(lab, str(picture), Question((RUN, other), label="y"))
    assert shown.count("<section") == 2
    assert shown.count("what speaks for y") == 4  # as text and as alternative text
    assert "<b>x" not in shown
    assert "&lt;b&gt;x" in shown
    moved = Question((RUN,), frame=Frame(0, 0, 0.3), harm=Distortion(noise=20))
    assert show_answer(lab, str(picture), moved) != show_answer(lab, str(picture), Question((RUN,)))


def test_what_two_networks_say_together_is_one_sentence() -> None:
    def says(label: str, verdict: str) -> Answer:
        other = "ship" if label == "cat" else "cat"
        shares = [(label, 0.9), (other, 0.1)]
        return Answer(predictions=shares, verdict=verdict, in_distribution_score=0)

    def sentence(*answers: Answer) -> str:
        return together(["ResNet", "DenseNet"], answers)

    assert sentence(says("cat", "sure"), says("cat", "sure")) == "cat: both networks agree."
    assert "only ResNet is sure" in sentence(says("cat", "sure"), says("cat", "unsure"))
    assert "neither is sure" in sentence(says("cat", "unsure"), says("cat", "unsure"))
    assert sentence(says("cat", "sure"), says("ship", "unsure")) == (
        "They disagree: ResNet says cat, DenseNet says ship."
    )
    assert sentence(says("cat", "none"), says("ship", "sure")) == (
        "DenseNet says ship; to ResNet it is none of these."
    )
    assert "first and is not sure; to ResNet" in sentence(says("cat", "none"), says("ship", "unsure"))
    assert sentence(says("cat", "none"), says("ship", "none")).startswith("None of these 2")


def test_two_networks_of_one_kind_are_told_apart(lab: Lab, picture: Path, tmp_path: Path) -> None:
    second = RUN.replace("2026", "2027")
    for name in (RUN, second):
        make_network(lab, name, ["x", "y"])
    assert lab.titles_of([RUN]) == ["Simple CNN"]
    first, other = lab.titles_of([RUN, second])
    assert first != other
    markup = show_answer(lab, str(picture), Question((RUN, second)))
    assert first in markup
    assert other in markup
    costs = costs_table(lab, [RUN, second])
    assert first in costs
    assert other in costs
    out = tmp_path / "answers.csv"
    classify_files(lab, [RUN, second], [str(picture)], out, lambda *far: None)
    heads = next(csv.reader(out.open(encoding="utf-8")))
    assert len(set(heads)) == len(heads) == 2 + 2 * 4


def test_files_of_one_name_are_numbered_and_too_many_are_refused(
    lab: Lab, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_network(lab, RUN, ["x", "y"])
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        shutil.copy(picture, tmp_path / name / "1.png")
    files = [str(tmp_path / name / "1.png") for name in ("a", "b", "a")]  # one of them given twice
    out = tmp_path / "answers.csv"
    classify_files(lab, [RUN], files, out, lambda *far: None)
    assert [row["file"] for row in csv.DictReader(out.open(encoding="utf-8"))] == ["1.png", "1.png (2)"]
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.write(picture, "1.png")
    classify_files(lab, [RUN], [files[0], str(tmp_path / "more.zip")], out, lambda *far: None)
    assert [row["file"] for row in csv.DictReader(out.open(encoding="utf-8"))] == ["1.png", "more.zip/1.png"]
    monkeypatch.setattr(many, "MAX_PICTURES", 1)
    with pytest.raises(InputError, match="At most 1 pictures"):
        classify_files(lab, [RUN], files, out, lambda *far: None)
    archives = [tmp_path / f"{i}.zip" for i in range(many.MAX_ARCHIVES + 1)]
    with pytest.raises(InputError, match=f"{many.MAX_ARCHIVES} archives"):
        classify_files(lab, [RUN], [*map(str, archives)], out, lambda *far: None)


def test_a_batch_that_nobody_wants_ends_without_keeping_anyone_waiting(
    lab: Lab, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_network(lab, RUN, ["x", "y"])
    folder, go_on, decoded = tmp_path / "answers", threading.Event(), []
    folder.mkdir()

    def slow(source: object, side: int) -> Image.Image:
        go_on.wait(20)
        decoded.append(source)
        return Image.new("RGB", (9, 9))

    monkeypatch.setattr(tempfile, "mkdtemp", lambda: str(folder))
    monkeypatch.setattr(pictures, "read_picture", slow)
    files = []
    for i in range(50):
        files.append(str(tmp_path / f"{i}.png"))
        shutil.copy(picture, files[-1])
    steps = classify.classify_in_background(lab, classify.Batch((RUN,), files))
    next(steps)
    begin = time.monotonic()
    steps.close()
    assert time.monotonic() - begin < 1
    go_on.set()
    while folder.exists() and time.monotonic() - begin < 20:
        time.sleep(0.05)
    assert not folder.exists()
    assert len(decoded) <= os.cpu_count()  # those under way


def test_a_cancelled_batch_says_so_last(lab: Lab, picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_network(lab, RUN, ["x", "y"])
    go_on = threading.Event()
    monkeypatch.setattr(
        classify, "classify_files", lambda *args: (go_on.wait(20), args[-1]("classify", 1, 2))
    )
    batch = classify.Batch((RUN,), [str(picture)])
    assert batch.begin()
    steps = classify.classify_in_background(lab, batch)
    next(steps)
    assert batch.cancel()
    go_on.set()
    markup, out = list(steps)[-1]
    assert text.CANCELLED in markup
    assert out is None


def test_a_batch_is_begun_once_and_not_after_it_was_cancelled() -> None:
    batch = classify.Batch((RUN,), [])
    with ThreadPoolExecutor(8) as together:
        assert sum(together.map(lambda _: batch.begin(), range(8))) == 1


def test_a_waiting_batch_can_be_cancelled(lab: Lab, picture: Path) -> None:
    make_network(lab, RUN, ["x", "y"])
    does = {f.name: f.fn for f in build_page(lab).fns.values()}
    *_, start, cancel, batch = does["on_start"]([str(picture)], RUN, None)
    assert (start.visible, cancel.visible) == (False, True)
    words, _, start, cancel = does["on_cancel"](batch)
    assert text.CANCELLED in words
    assert (start.visible, cancel.visible) == (True, False)
    assert list(does["on_many"](batch)) == [(gr.skip(),) * 4]
    *_, another = does["on_start"]([str(picture)], RUN, None)
    steps = list(does["on_many"](another))
    assert text.MANY_DONE.format(count=1) in steps[-2][0]
    assert steps[-1][2].visible
    assert does["on_cancel"](another) == (gr.skip(),) * 4  # too late


def test_the_file_of_another_folder_is_not_described(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path / "uploads", tmp_path / "data")
    about = {"train": 1, "test": 1, "classes": ["x"], "skipped": 0}
    (tmp_path / "secret.json").write_text(json.dumps(about))
    (tmp_path / "secret.png").write_bytes(b"secret")
    assert uploads.describe("../secret") == ""
    assert uploads.describe(str(tmp_path / "secret")) == ""


def test_networks_that_are_gone_are_replaced_and_none_beside_stays_none(lab: Lab) -> None:
    make_network(lab, RUN, ["x", "y"])
    name, second = classify.networks_now(lab, "20250101-000000-gone", "20250101-000000-gone")
    assert (name.value, second.value) == (RUN, None)
    name, second = classify.networks_now(lab, RUN, RUN)
    assert (name.value, second.value) == (RUN, RUN)
    assert classify.networks_now(lab, RUN, classify.ALONE)[1].value == classify.ALONE


def test_results_go_on_without_a_network_beside_that_is_gone(lab: Lab) -> None:
    make_network(lab, RUN, ["x", "y"])
    page = build_page(lab)
    (opened,) = [f for f in page.fns.values() if f.name == "on_tab"]
    gone = "20250101-000000-gone"
    first, second, *rest = opened.fn(RUN, gone, "class", True, "counts", None)
    assert (first.value, second.value) == (RUN, None)
    assert any("html" in name for name in rest[0])


@pytest.mark.parametrize(
    ("typed", "taken"), [(None, 100), (50.5, 50), (1e9, 100), (10**400, 100), ("x", 100)]
)
def test_a_dial_takes_whatever_is_typed(typed: object, taken: int) -> None:
    assert Dial(1, 100, 100, step=1, precision=0).preprocess(typed) == taken


def test_networks_are_loaded_once_and_the_longest_unused_is_dropped(lab: Lab) -> None:
    names = [f"20260101-000000-simple-cnn-{i:04x}" for i in range(MAX_LOADED_MODELS + 1)]
    for name in names:
        make_network(lab, name, ["x", "y"])
    with ThreadPoolExecutor(8) as together:  # who asks at the same time shares it
        assert len({id(c) for c in together.map(lab.checkpoint, names[:1] * 8)}) == 1
    first, second = lab.checkpoint(names[0]), weakref.ref(lab.checkpoint(names[1]))
    for name in names[2:]:
        assert lab.checkpoint(names[0]) is first
        lab.checkpoint(name)
    gc.collect()
    assert second() is None
    assert lab.checkpoint(names[0]) is first


def test_the_answer_is_written_by_one_event_only(lab: Lab) -> None:
    """Answers of two could come in the wrong order; of one, the last that is asked comes last."""
    config = build_page(lab).config
    (answer,) = [c["id"] for c in config["components"] if c["props"].get("elem_id") == "answer"]
    (event,) = [d for d in config["dependencies"] if answer in d["outputs"]]
    assert event["trigger_mode"] == "always_last"
    assert "load" in [name for _, name in event["targets"]]


def test_many_files_go_on_beside_what_is_no_picture(lab: Lab, picture: Path, tmp_path: Path) -> None:
    make_network(lab, RUN, ["x", "y"])
    names = (".DS_Store", "Thumbs.db", "desktop.ini", "notes.txt", "bad.zip")
    for name in names:
        (tmp_path / name).write_bytes(b"odd")
    out = tmp_path / "answers.csv"
    classify_files(lab, [RUN], [*(str(tmp_path / n) for n in names), str(picture)], out, lambda *far: None)
    rows = list(csv.DictReader(out.open(encoding="utf-8")))
    assert [row["file"] for row in rows] == ["notes.txt", "bad.zip", picture.name]
    assert "not a picture" in rows[0]["error"]
    assert "zip" in rows[1]["error"]
    assert rows[2]["error"] == ""


@pytest.mark.parametrize("top", [0, -3, float("nan"), None, "5"])
def test_a_senseless_number_of_classes_is_refused(lab: Lab, picture: Path, top: Any) -> None:
    make_network(lab, RUN, ["x", "y"])
    with pytest.raises(InputError, match="top"):
        classify.classify_file(lab, str(picture), RUN, Count(5, precision=0).preprocess(top))
    said = classify.classify_file(lab, str(picture), RUN, float("inf"))
    assert len(said["probabilities"]) == 2


def test_a_choice_is_handed_on_even_if_the_list_of_a_page_is_forgotten() -> None:
    assert Choice([]).preprocess("resnet18") == "resnet18"
    assert Choice([]).preprocess(["resnet18"]) is None


def test_a_frame_that_is_no_number_is_all_of_the_picture() -> None:
    frame = {"left": 0.1, "top": 0.2, "side": 7}
    assert FramePicker().preprocess({"of": "a.png", "frame": frame}) == ("a.png", (0.1, 0.2, 1.0))
    for odd in (None, {}, {"frame": {}}, {"frame": frame | {"side": "nan"}}, {"frame": frame | {"top": "x"}}):
        assert FramePicker().preprocess(odd).frame == WHOLE


def test_many_files_become_a_table_and_a_csv(lab: Lab, picture: Path, tmp_path: Path) -> None:
    make_network(lab, RUN, ["=SUM(1)", "y"])
    odd = tmp_path / "=cmd.png"
    shutil.copy(picture, odd)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8 no picture")
    zipped = archive(tmp_path / "more.zip", {"<i>": 120})
    out = tmp_path / "answers.csv"
    seen: list[tuple[int, int]] = []
    markup = classify_files(
        lab, [RUN], [str(f) for f in (odd, broken, zipped)], out, lambda _, *far: seen.append(far)
    )
    rows = list(csv.DictReader(out.open(encoding="utf-8")))
    assert [row["file"] for row in rows[:2]] == ["'=cmd.png", "broken.jpg"]
    assert len(rows) == 122
    assert seen[-1] == (122, 122)
    assert "not a picture" in rows[1]["error"] or "broken" in rows[1]["error"]
    assert float(rows[0]["Simple CNN =SUM(1)"]) + float(rows[0]["Simple CNN y"]) == pytest.approx(1, abs=1e-3)
    assert rows[0]["Simple CNN label"] in ("'=SUM(1)", "y")
    assert markup.count("<tr>") == 1 + 100
    assert "<i>/" not in markup
    assert "The first 100 of 122" in markup
    with pytest.raises(InputError):
        classify_files(lab, [RUN], [], out, lambda *far: None)


def test_shipped_networks_are_looked_at_but_not_touched(lab: Lab) -> None:
    make_network(lab, RUN, ["a", "b"])
    write_epochs(lab, RUN)
    info = lab.info(RUN)
    (lab.shipped_dir / "runs").mkdir(parents=True)
    save_checkpoint(
        lab.shipped_dir / "simple_cnn.safetensors", create_model("simple_cnn", 2).state_dict(), info
    )
    shipped = ship_curves(lab.run(RUN), lab.shipped_dir)
    assert list(lab.checkpoints()) == ["simple_cnn", RUN]
    assert [run.id for run in lab.runs()] == [RUN, shipped.name]
    assert train.origin_choices(lab, "simple_cnn")[1] == ("Simple CNN (shipped)", "simple_cnn")
    assert train.origin_choices(lab, "resnet18") == [(text.RANDOM_WEIGHTS, train.RANDOM)]
    drawn = show_results(lab, "simple_cnn")
    assert drawn["html"]["html-head"]
    page = live.read_run(lab, {"source": shipped.name, "cursor": 0})
    assert page["figures"]["loss"]["data"]
    assert 'data-action="clone"' in page["html"]["html-actions"]
    assert "delete" not in page["html"]["html-actions"]
    for action in ("delete", "resume", "stop"):
        with pytest.raises(InputError):
            train.control(lab, action, shipped.name)
    assert shipped.is_dir()


def test_results_show_how_networks_learned(lab: Lab) -> None:
    make_network(lab, RUN, ["a", "b"])
    write_epochs(lab, RUN)
    report = make_report(
        torch.eye(2), torch.arange(2), ("a", "b"), model="simple_cnn", data="away", data_fingerprint="f"
    )
    info = lab.info(RUN).model_copy(update={"metrics": report.model_dump()})
    weights = create_model("simple_cnn", 2).state_dict()
    save_checkpoint(lab.run(RUN).model_file, weights, info)
    figures = show_results(lab, RUN)["figures"]
    assert figures["compare-loss"]["data"][0]["y"] == [1.5, 1.2]
    assert figures["compare-accuracy"]["data"][0]["y"] == [0.4, 0.6]


def write_epochs(lab: Lab, run_id: str) -> None:
    """The log of two epochs."""
    folder = lab.own_run(run_id)
    config = folder.read_config().model_dump(mode="json")
    start = {
        "type": "start", "time": 1.0, "config": config, "device": "CPU", "steps_total": 5,
        "classes": ["a", "b"], "data": {"name": "away"},
    }  # fmt: skip
    epochs = [
        {
            "type": "epoch", "time": 2.0, "epoch": n, "step": 2 * n, "train_loss": loss, "test_loss": loss,
            "train_accuracy": accuracy, "test_accuracy": accuracy, "seconds": 1.0,
            "per_class_accuracy": {"a": accuracy, "b": None},
        }
        for n, loss, accuracy in ((1, 1.5, 0.4), (2, 1.2, 0.6))
    ]  # fmt: skip
    end = {"type": "status", "time": 3.0, "status": "finished", "reason": ""}
    events = [start, step(1), step(2), *epochs, end]
    folder.events_file.write_text("".join(json.dumps(e) + "\n" for e in events))


def test_the_most_similar_training_pictures_are_shown_once_they_are_loaded(
    tmp_path: Path, picture: Path
) -> None:
    lab = Lab(tmp_path / "runs", str(archive(tmp_path / "fruits.zip", {"apple": 150, "plum": 150})))
    data = load_data(str(tmp_path / "fruits.zip"), data_dir=lab.data_dir)
    config = make_config(epochs=1, batch_size=20)
    trainer = Trainer(config, data)
    list(trainer.events())
    folder = RunFolder(lab.runs_dir / RUN)
    create_run(folder, config)
    info = trainer.checkpoint_info()
    save_checkpoint(folder.model_file, trainer.weights(), info, trainer.bank, trainer.bank_images)
    question = Question((RUN,))
    show_answer(lab, str(picture), question)  # starts loading what lies there
    assert lab.load_in_background("fruits.zip").finished.wait(30)
    assert show_answer(lab, str(picture), question).count('<figure class="lab-picture">') == 3
    away = Lab(tmp_path / "runs")
    assert "lab-picture" not in show_answer(away, str(picture), question)


def test_the_first_tab_waits_for_no_other(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow Results tab once took the view back from a run that was started meanwhile."""
    monkeypatch.setattr("demo.page.show_results", lambda *_: pytest.fail("it waits for the results"))
    page = build_page(lab)
    live_view = next(b for b in page.blocks.values() if getattr(b, "elem_id", None) == "live")
    loads = [f for f in page.fns.values() if (page._id, "load") in f.targets and live_view in f.outputs]
    assert len(loads) == 1
    shown, table, _ = loads[0].fn()
    assert "source" not in shown
    assert table == {"shown": None}
