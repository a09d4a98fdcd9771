"""What the page's handlers answer, without a browser."""

import json
from pathlib import Path
from typing import Any

import pytest

from core import InputError
from core.checkpoint import CheckpointInfo, save_checkpoint
from core.models import create_model
from core.runs import RunFolder, create_run
from demo import charts, text
from demo.lab import Lab
from demo.tabs import classify, results, train
from tests.conftest import make_config

RUN = "20260101-000000-simple-cnn-abcd"


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path / "runs")


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
    first = train.read_run(lab, {"source": RUN, "cursor": 0})
    assert first["figures"]["loss"]["data"][0]["x"] == [1, 2, 3, 4, 5]
    nothing = train.read_run(lab, {"source": RUN, "cursor": first["cursor"]})
    assert "figures" not in nothing
    assert "append" not in nothing
    with open(folder.events_file, "a") as file:
        file.write(json.dumps(step(6)) + "\n" + '{"type": "step", "torn')
    more = train.read_run(lab, {"source": RUN, "cursor": first["cursor"]})
    assert more["append"]["loss"]["0"]["x"] == [6]


def test_after_a_resume_the_page_draws_anew_without_the_void_steps(lab: Lab) -> None:
    folder = write_run(lab)
    cursor = train.read_run(lab, {"source": RUN, "cursor": 0})["cursor"]
    resumed = {"type": "status", "time": 2.0, "status": "running", "reason": "resumed", "from_step": 4}
    with open(folder.events_file, "a") as file:
        file.write(json.dumps(resumed) + "\n" + json.dumps(step(4)) + "\n")
    answer = train.read_run(lab, {"source": RUN, "cursor": cursor})
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
    answer = train.read_run(lab, request_)
    assert set(answer) == {"cursor", "wait"}


def test_names_are_escaped_wherever_they_are_shown(lab: Lab) -> None:
    evil = "<img src=x onerror=alert(1)>"
    folder = RunFolder(lab.runs_dir / RUN)
    config = make_config().model_copy(update={"data": f"/{evil}"})
    create_run(folder, config)
    classes = [evil, "b"]
    info = CheckpointInfo(
        model="simple_cnn", classes=classes, image_size=32, mean=(0.5,) * 3, std=(0.2,) * 3, data=evil,
        hardware=evil,
        metrics={
            "accuracy": 0.5, "accuracy_tta": None, "loss": 1.0, "ece": 0.1, "count": 4,
            "per_class_accuracy": {evil: 0.5, "b": None}, "per_class_count": {evil: 4, "b": 0},
        },
    )  # fmt: skip
    save_checkpoint(folder.model_file, create_model("simple_cnn", 2).state_dict(), info)
    shown = results.show_results(lab, RUN)["html"]
    head = train.read_run(lab, {"source": RUN, "cursor": 0})["html"]["html-head"]
    picture = Path(__file__).parents[2] / "demo" / "examples" / "star.png"
    answer = classify.show_answer(lab, str(picture), RUN)
    for markup in (*shown.values(), head, answer):
        assert "<img src=x" not in markup
    assert "&lt;img" in shown["html-table"]
    assert "&lt;img" in answer
    assert "no images" in results.show_results(lab, RUN)["figures"]["per-class"]["data"][0]["text"]


def test_only_names_from_the_list_are_taken(lab: Lab) -> None:
    for name in ("../x", "/etc/passwd", "resnet18/../../x", "", "a" * 61, RUN):
        with pytest.raises(InputError):
            lab.checkpoint_path(name)
    with pytest.raises(InputError):
        lab.source("/etc")
    with pytest.raises(InputError):
        train.start_training(lab, "simple_cnn", "/etc", "quick")


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
