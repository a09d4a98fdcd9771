import time

import pytest
import torch
from torch import nn
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
    multiclass_confusion_matrix,
    multiclass_f1_score,
    multiclass_precision,
    multiclass_recall,
)

from core.checkpoint import Checkpoint, CheckpointInfo
from core.data import DataSet, ImageSet
from core.data.image_set import make_data_set
from core.evaluation import (
    Interrupted,
    evaluate_checkpoint,
    expected_calibration_error,
    fit_temperature,
    footprint,
    make_report,
    mcnemar,
    predict,
    reliability_table,
    wilson_interval,
)
from core.models import MODELS, create_model

CPU = torch.device("cpu")


def random_logits(count: int = 1003, classes: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, classes, (count,), generator=generator)
    logits = torch.randn(count, classes, generator=generator) * 2
    logits[torch.arange(count), labels] += 2
    return logits, labels


def test_the_report_agrees_with_torchmetrics() -> None:
    logits, labels = random_logits()
    names = [f"class {i}" for i in range(7)]
    report = make_report(logits, labels, names, model="m", data="d", data_fingerprint="f", temperature=1.7)
    oracle = multiclass_accuracy(logits, labels, 7, average="micro").item()
    assert report.accuracy == pytest.approx(oracle, abs=1e-6)
    per_class = multiclass_accuracy(logits, labels, 7, average="none").tolist()
    assert list(report.per_class_accuracy.values()) == pytest.approx(per_class, abs=1e-6)
    assert report.confusion_matrix == multiclass_confusion_matrix(logits, labels, 7).tolist()
    assert report.loss == pytest.approx(nn.functional.cross_entropy(logits, labels).item(), abs=1e-5)
    oracles = {
        "precision": (multiclass_precision, report.per_class_precision),
        "recall": (multiclass_recall, report.per_class_accuracy),
        "f1": (multiclass_f1_score, report.per_class_f1),
    }
    for oracle_of, ours in oracles.values():
        assert list(ours.values()) == pytest.approx(
            oracle_of(logits, labels, 7, average="none").tolist(), abs=1e-6
        )
    for k, ours in ((2, report.top2_accuracy), (3, report.top3_accuracy)):
        assert ours == pytest.approx(
            multiclass_accuracy(logits, labels, 7, average="micro", top_k=k).item(), abs=1e-6
        )
    assert report.loss_at_temperature == pytest.approx(
        nn.functional.cross_entropy(logits / 1.7, labels).item(), abs=1e-5
    )
    truth, prediction, images = report.most_confused[0]
    matrix = torch.tensor(report.confusion_matrix)
    assert images == matrix.fill_diagonal_(0).max()
    assert matrix[names.index(truth), names.index(prediction)] == images
    assert report.interval[0] < report.accuracy < report.interval[1]
    calibration = multiclass_calibration_error((logits / 1.7).softmax(1), labels, 7, n_bins=15).item()
    assert report.ece == pytest.approx(calibration, abs=1e-5)
    assert sum(report.per_class_count.values()) == report.count == 1003


def test_a_class_without_test_images_has_no_accuracy() -> None:
    logits, labels = random_logits(50, 3)
    labels[labels == 2] = 0
    report = make_report(logits, labels, ["a", "b", "c"], model="m", data="d", data_fingerprint="f")
    assert report.per_class_accuracy["c"] is None
    assert report.per_class_count["c"] == 0


@pytest.mark.parametrize("count", [1, 63, 64, 65, 200])
def test_predict_is_exact_for_any_last_batch(count: int) -> None:
    torch.manual_seed(0)
    model = create_model("simple_cnn")
    images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8)
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    logits = predict(model, images, mean, std, size=32, device=CPU)
    normal = (images.float() / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(logits, model.eval()(normal), rtol=1e-4, atol=1e-5)


def test_predict_stops_when_asked_and_leaves_the_mode_as_it_was() -> None:
    model = create_model("simple_cnn").train()
    images = torch.zeros(600, 3, 32, 32, dtype=torch.uint8)
    asked = iter([False, True])
    with pytest.raises(Interrupted):
        predict(model, images, (0, 0, 0), (1, 1, 1), size=32, device=CPU, should_stop=lambda: next(asked))
    assert model.training


def test_temperature_is_where_the_loss_is_least() -> None:
    logits, labels = random_logits()
    fitted = fit_temperature(logits * 3, labels)

    def loss(t: float) -> float:
        return nn.functional.cross_entropy((logits * 3).double() / t, labels).item()

    assert loss(fitted) <= min(loss(fitted * 1.01), loss(fitted / 1.01))
    assert fitted == pytest.approx(3 * fit_temperature(logits, labels), rel=1e-6)
    assert fit_temperature(logits[:0], labels[:0]) == 1.0


def test_calibration_error_of_a_perfectly_calibrated_guess_is_zero() -> None:
    probabilities = torch.tensor([[0.75, 0.25]]).repeat(4, 1)

    def error(labels: list[int]) -> float:
        return expected_calibration_error(reliability_table(probabilities, torch.tensor(labels)))

    assert error([0, 0, 0, 1]) == pytest.approx(0)
    assert error([1, 1, 1, 1]) == pytest.approx(0.75)
    table = reliability_table(probabilities, torch.tensor([0, 0, 1, 1]))
    assert [row.count for row in table] == [0] * 11 + [4] + [0] * 3
    assert (table[11].confidence, table[11].accuracy) == (0.75, 0.5)


def test_intervals_are_wilsons_and_stay_inside_0_and_1() -> None:
    # Newcombe (1998), table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29, Wilson without continuity correction
    published = {(81, 263): (0.2553, 0.3662), (15, 148): (0.0624, 0.1605), (0, 20): (0.0, 0.1611),
                 (1, 29): (0.0061, 0.1718)}  # fmt: skip
    for (hits, count), interval in published.items():
        assert wilson_interval(hits, count) == pytest.approx(interval, abs=5e-5)
    assert wilson_interval(10, 10)[1] == pytest.approx(1.0)
    assert wilson_interval(0, 0) is None


def test_mcnemar_is_the_exact_two_sided_test() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(5, 5) == 1.0
    assert mcnemar(0, 5) == pytest.approx(2 / 2**5)
    assert mcnemar(1, 5) == mcnemar(5, 1) == pytest.approx(2 * (1 + 6) / 2**6)
    assert mcnemar(300, 400) == pytest.approx(0.000182, abs=2e-5)  # near the normal approximation's
    assert 0 <= mcnemar(0, 10_000) < 1e-300


def test_flip_tta_averages_the_logits_of_both_views(shapes: DataSet) -> None:
    torch.manual_seed(0)
    model = create_model("simple_cnn").eval()
    info = CheckpointInfo(
        model="simple_cnn", classes=list(shapes.classes), image_size=32, mean=(0.5,) * 3, std=(0.25,) * 3
    )
    report, _ = evaluate_checkpoint(Checkpoint(model, info), shapes, tta=True)
    views = [
        predict(model, shapes.test.images, info.mean, info.std, size=32, device=CPU, mirror=m)
        for m in (False, True)
    ]
    mean = (views[0] + views[1]) / 2
    oracle = multiclass_accuracy(mean, shapes.test.labels, 10, average="micro").item()
    assert report.accuracy_tta == pytest.approx(oracle, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # by hand: 28 * 28 * 6 * 75 + 10 * 10 * 16 * 150 + 400 * 120 + 120 * 84 + 84 * 10
        ("simple_cnn", 651_720),
        ("resnet18", 555_422_720),  # 0.56 G, as the literature has it
    ],
)
def test_multiply_adds_are_counted(name: str, expected: int) -> None:
    assert footprint(name, 10, 32) == (MODELS[name].parameters, expected)


@pytest.mark.timing
def test_evaluating_is_nearly_all_forward_passes() -> None:
    model = create_model("resnet18").eval()
    info = CheckpointInfo(
        model="resnet18", classes=list("abcdefghij"), image_size=32, mean=(0.5,) * 3, std=(0.25,) * 3
    )
    images = torch.randint(0, 256, (10_000, 3, 32, 32), dtype=torch.uint8)
    some = ImageSet(images, torch.arange(10).repeat(1000))
    data = make_data_set(some, some, tuple(info.classes), "noise", 0)
    inside = 0.0

    def timed(*args: object) -> torch.Tensor:
        nonlocal inside
        begin = time.perf_counter()
        said = forward(*args)
        inside += time.perf_counter() - begin
        return said

    forward, model.forward = model.forward, timed
    predict(model, images[:250], info.mean, info.std, size=32, device=CPU)  # warm
    inside, begin = 0.0, time.perf_counter()
    evaluate_checkpoint(Checkpoint(model, info), data)
    whole = time.perf_counter() - begin
    print(f"outside of the forward passes: {1 - inside / whole:.1%} of {whole:.1f} s")
    assert 1 - inside / whole < 0.05
