import pytest
import torch
from torch import nn
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
    multiclass_confusion_matrix,
)

from core.checkpoint import Checkpoint, CheckpointInfo
from core.data import DataSet
from core.evaluation import (
    Interrupted,
    evaluate_checkpoint,
    expected_calibration_error,
    fit_temperature,
    make_report,
    predict,
)
from core.models import create_model

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
    calibration = multiclass_calibration_error((logits / 1.7).softmax(1), labels, 7, n_bins=15).item()
    assert report.ece == pytest.approx(calibration, abs=1e-5)
    assert sum(report.per_class_count.values()) == report.count == 1003


def test_a_class_without_test_images_has_no_accuracy() -> None:
    logits, labels = random_logits(50, 3)
    labels[labels == 2] = 0
    report = make_report(logits, labels, ["a", "b", "c"], model="m", data="d", data_fingerprint="f")
    assert report.per_class_accuracy["c"] is None
    assert report.per_class_count["c"] == 0


@pytest.mark.parametrize("count", [1, 249, 250, 251, 503])
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
    assert expected_calibration_error(probabilities, torch.tensor([0, 0, 0, 1])) == pytest.approx(0)
    assert expected_calibration_error(probabilities, torch.tensor([1, 1, 1, 1])) == pytest.approx(0.75)


def test_flip_tta_averages_the_logits_of_both_views(shapes: DataSet) -> None:
    torch.manual_seed(0)
    model = create_model("simple_cnn").eval()
    info = CheckpointInfo(
        model="simple_cnn", classes=list(shapes.classes), image_size=32, mean=(0.5,) * 3, std=(0.25,) * 3
    )
    report = evaluate_checkpoint(Checkpoint(model, info), shapes, tta=True)
    views = [
        predict(model, shapes.test.images, info.mean, info.std, size=32, device=CPU, mirror=m)
        for m in (False, True)
    ]
    mean = (views[0] + views[1]) / 2
    oracle = multiclass_accuracy(mean, shapes.test.labels, 10, average="micro").item()
    assert report.accuracy_tta == pytest.approx(oracle, abs=1e-6)
