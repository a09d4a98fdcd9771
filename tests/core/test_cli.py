"""The terminal as a user meets it: real processes, exit codes, standard output and error."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from core.cli import main
from tests.conftest import CIFAR10_IMAGES, needs_cifar10

ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="module")
def run(work: Path) -> Run:
    def call(*args: object, timeout: float = 200) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "core", *map(str, args)],
            cwd=work,
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(work)},
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return call


@pytest.fixture(scope="module")
def trained(run: Run, work: Path) -> Path:
    out = work / "runs" / "trained-by-test"
    done = run("train", "--model", "simple_cnn", "--data", "synthetic", "--epochs", 6, "--out", out)
    assert done.returncode == 0, done.stderr
    return out


def test_training_leaves_a_complete_folder(trained: Path) -> None:
    names = {path.name for path in trained.iterdir()}
    assert {"config.json", "events.jsonl", "model.safetensors", "report.json"} <= names
    assert "predictions.safetensors" in names
    assert "resume.safetensors" not in names
    report = json.loads((trained / "report.json").read_text())
    assert report["accuracy"] > 0.5


def test_evaluate_repeats_the_runs_own_report(run: Run, trained: Path) -> None:
    done = run("evaluate", trained / "model.safetensors", "--data", "synthetic", "--tta", "--json", "-")
    assert done.returncode == 0, done.stderr
    printed, report = json.loads(done.stdout), json.loads((trained / "report.json").read_text())
    for key in ("accuracy", "accuracy_tta", "per_class_accuracy", "confusion_matrix", "count", "ece"):
        assert printed[key] == report[key], key
    assert printed["model"] == "simple_cnn"
    assert "ece_before_temperature" in printed
    plain = run("evaluate", "trained-by-test", "--data", "synthetic", "--json", "-")
    assert "accuracy_tta" not in json.loads(plain.stdout)


def test_classify_prints_probabilities_that_add_up(run: Run, trained: Path, picture: Path) -> None:
    done = run("classify", trained / "model.safetensors", picture, picture, "--json")
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert [r["file"] for r in results] == [str(picture)] * 2
    for result in results:
        values = [p["probability"] for p in result["predictions"]]
        assert sum(values) == pytest.approx(1, abs=1e-6)
        assert values == sorted(values, reverse=True)
        assert len(values) == 10
        assert result["verdict"] in ("sure", "unsure", "none")
    top = run("classify", trained, picture, "--top", 3, "--json")
    assert len(json.loads(top.stdout)[0]["predictions"]) == 3


def test_a_bad_picture_has_its_own_entry_and_the_others_theirs(
    run: Run, trained: Path, picture: Path, work: Path
) -> None:
    bad = work / "notes.jpg"
    bad.write_text("not a picture")
    done = run("classify", trained, bad, picture, "--json")
    first, second = json.loads(done.stdout)
    assert "not a picture" in first["error"]
    assert "predictions" in second
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1


def test_runs_lists_what_there_is(run: Run, trained: Path, work: Path) -> None:
    broken = work / "runs" / "broken-run-1"
    broken.mkdir()
    (broken / "config.json").write_text("{")
    listed = json.loads(run("runs", "--runs", work / "runs", "--json").stdout)
    by_id = {entry["id"]: entry for entry in listed}
    assert by_id["trained-by-test"]["status"] == "finished"
    assert by_id["trained-by-test"]["accuracy"] > 0.5
    assert by_id["trained-by-test"]["epoch"] == 6
    assert by_id["broken-run-1"]["status"] == "unreadable"


def test_a_stopped_run_goes_on_to_the_same_weights(run: Run, work: Path) -> None:
    args = ("train", "--model", "simple_cnn", "--data", "synthetic", "--epochs", 16, "--save-every", 1)
    process = subprocess.Popen(
        [sys.executable, "-m", "core", *map(str, args), "--out", str(work / "runs" / "interrupted")],
        cwd=work,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(work)},
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stderr:
        if line.startswith("epoch   3"):
            process.terminate()
    assert process.wait() == 0
    listed = json.loads(run("runs", "--runs", work / "runs", "--json").stdout)
    assert {r["id"]: r["status"] for r in listed}["interrupted"] == "stopped"
    assert (work / "runs" / "interrupted" / "model.safetensors").exists()
    resumed = run("train", "--resume", work / "runs" / "interrupted")
    assert resumed.returncode == 0, resumed.stderr
    whole = run(*args, "--out", work / "runs" / "uninterrupted")
    assert whole.returncode == 0
    from safetensors.torch import load_file

    a, b = (
        load_file(work / "runs" / name / "model.safetensors") for name in ("interrupted", "uninterrupted")
    )
    assert all((a[key] == b[key]).all() for key in b)


WRONG = {
    "missing checkpoint": ("evaluate", "nothing.safetensors", "--data", "synthetic"),
    "missing data": ("evaluate", "{trained}", "--data", "nowhere"),
    "text as checkpoint": ("evaluate", "{text}", "--data", "synthetic"),
    "text as zip": ("train", "--model", "simple_cnn", "--data", "{text}"),
    "empty folder": ("train", "--model", "simple_cnn", "--data", "{empty}"),
    "unknown model": ("train", "--model", "resnet1800", "--data", "synthetic"),
    "unknown preset": ("train", "--preset", "slow", "--data", "synthetic"),
    "unknown option": ("train", "--colour", "red"),
    "no epochs": ("train", "--model", "simple_cnn", "--data", "synthetic", "--epochs", "0"),
    "no number": ("train", "--epochs", "many"),
    "negative rate": ("train", "--data", "synthetic", "--lr", "-1"),
    "huge batch": ("train", "--model", "simple_cnn", "--data", "synthetic", "--batch-size", "9999"),
    "unwritable out": ("train", "--model", "simple_cnn", "--data", "synthetic", "--out", "/proc/run"),
    "used out": ("train", "--model", "simple_cnn", "--data", "synthetic", "--out", "{trained}"),
    "no such device": ("train", "--model", "simple_cnn", "--data", "synthetic", "--device", "mps"),
    "resume nothing": ("train", "--resume", "nowhere"),
    "resume finished": ("train", "--resume", "{trained}"),
    "missing picture": ("classify", "{trained}", "none.jpg"),
    "unwritable json": ("evaluate", "{trained}", "--data", "synthetic", "--json", "/proc/x.json"),
    "other classes": ("evaluate", "{trained}", "--data", "{folder}"),
    "no runs folder": ("runs", "--runs", "nowhere"),
    "no command": ("unheard-of",),
}


@pytest.fixture
def run_here(work: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """The same command in this process, which has PyTorch loaded already."""

    def call(*args: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(work)
        monkeypatch.setattr(sys, "argv", ["core", *args])
        with pytest.raises(SystemExit) as end:
            main()
        return subprocess.CompletedProcess(args, end.value.code, *capfd.readouterr())

    return call


REAL_PROCESS = ("missing data", "unknown option")  # for the others a process each would only cost time


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_gives_one_line_and_exit_code_2(
    case: str, run: Run, run_here: Run, trained: Path, work: Path
) -> None:
    text = work / "text.zip"
    text.write_text("this is neither a zip nor a checkpoint")
    (work / "empty").mkdir(exist_ok=True)
    for label in ("cats", "dogs"):
        (work / "folder" / label).mkdir(parents=True, exist_ok=True)
        for i in range(4):
            Image.new("RGB", (8, 8)).save(work / "folder" / label / f"{i}.png")
    places = {"trained": trained, "text": text, "empty": work / "empty", "folder": work / "folder"}
    before = set((work / "runs").iterdir())
    ask = run if case in REAL_PROCESS else run_here
    done = ask(*(part.format(**places) for part in WRONG[case]))
    lines = done.stderr.splitlines()
    assert done.returncode == 2, done.stderr
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    assert done.stdout == ""
    assert set((work / "runs").iterdir()) == before


def test_help_explains_every_option_with_its_default(run: Run) -> None:
    done = run("train", "--help")
    assert done.returncode == 0
    for option in ("--model", "--data", "--preset", "--epochs", "--seed", "--save-every", "--resume"):
        assert option in done.stdout
    assert "[default: fast]" in done.stdout


@needs_cifar10
def test_simple_cnn_learns_cifar10(run: Run, work: Path) -> None:
    out = work / "runs" / "real-images"
    done = run("train", "--model", "simple_cnn", "--data", CIFAR10_IMAGES, "--epochs", 5, "--out", out)
    assert done.returncode == 0, done.stderr
    assert json.loads((out / "report.json").read_text())["accuracy"] >= 0.62
