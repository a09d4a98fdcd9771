"""The report: everything counted from one pass over the test set."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from core import InputError
from core.checkpoint import Checkpoint
from core.data.image_set import DataSet
from core.evaluation.calibration import ReliabilityBin, expected_calibration_error, reliability_table
from core.evaluation.predict import predict
from core.evaluation.significance import wilson_interval


class Report(BaseModel):
    """How a network did on the test images of a data set. Accuracies are fractions.

    Attributes:
        interval: 95% interval of the accuracy (Wilson).
        loss: mean cross-entropy (negative log-likelihood) at temperature 1.
        loss_at_temperature: the same at `temperature`.
        top2_accuracy, top3_accuracy: the truth is among the best two, or three.
        accuracy_tta: with logits averaged over image and mirror image; None where not measured.
        per_class_accuracy: None for a class without test images. It is the class's recall.
        per_class_interval: 95% interval of each of them.
        per_class_precision, per_class_f1: None where nothing was taken for the class.
        per_class_count: test images of each class.
        confusion_matrix: counts, [truth][prediction].
        most_confused: pairs (truth, prediction, images), most images first.
        ece: expected calibration error at `temperature`, over 15 bins.
        reliability, reliability_before_temperature: what it is made of.
        skipped: files of the data set that could not be read and are not counted.
    """

    model_config = ConfigDict(extra="ignore")

    model: str
    data: str
    data_fingerprint: str
    count: int
    accuracy: float
    interval: tuple[float, float] = (0.0, 1.0)
    accuracy_tta: float | None = None
    top2_accuracy: float | None = None
    top3_accuracy: float | None = None
    loss: float
    loss_at_temperature: float | None = None
    per_class_accuracy: dict[str, float | None]
    per_class_interval: dict[str, tuple[float, float] | None] = {}
    per_class_precision: dict[str, float | None] = {}
    per_class_f1: dict[str, float | None] = {}
    per_class_count: dict[str, int]
    confusion_matrix: list[list[int]]
    most_confused: list[tuple[str, str, int]] = []
    temperature: float
    ece: float
    ece_before_temperature: float
    reliability: list[ReliabilityBin] = []
    reliability_before_temperature: list[ReliabilityBin] = []
    skipped: int = 0


def confusion_matrix(predicted: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Counts (num_classes, num_classes) int64: row truth, column prediction."""
    flat = torch.bincount(labels * num_classes + predicted, minlength=num_classes**2)
    return flat.view(num_classes, num_classes)


def per_class_accuracy(matrix: Tensor, classes: Sequence[str]) -> dict[str, float | None]:
    """Share of each class's images that were recognised; None for a class without any."""
    counts, hits = matrix.sum(dim=1).tolist(), matrix.diagonal().tolist()
    return {
        name: hit / count if count else None for name, hit, count in zip(classes, hits, counts, strict=True)
    }


def precision_and_f1(
    matrix: Tensor, classes: Sequence[str]
) -> tuple[dict[str, float | None], dict[str, float | None]]:
    """Of what was taken for a class, the share that is; and its harmonic mean with the recall."""
    taken, there = matrix.sum(dim=0).tolist(), matrix.sum(dim=1).tolist()
    hits = matrix.diagonal().tolist()
    rows = list(zip(classes, hits, taken, there, strict=True))
    precision = {name: hit / t if t else None for name, hit, t, _ in rows}
    f1 = {name: 2 * hit / (t + n) if t + n else None for name, hit, t, n in rows}
    return precision, f1


def most_confused(matrix: Tensor, classes: Sequence[str], most: int = 10) -> list[tuple[str, str, int]]:
    """Pairs (truth, prediction, images) of different classes, most images first."""
    wrong = matrix.clone().fill_diagonal_(0)
    best = wrong.flatten().sort(descending=True, stable=True)
    pairs = zip(best.indices[:most].tolist(), best.values[:most].tolist(), strict=True)
    return [(classes[i // len(classes)], classes[i % len(classes)], n) for i, n in pairs if n]


def _top(logits: Tensor, labels: Tensor, k: int) -> float:
    best = logits.topk(min(k, logits.shape[1]), dim=1).indices
    return (best == labels[:, None]).any(dim=1).double().mean().item()


def make_report(
    logits: Tensor,
    labels: Tensor,
    classes: Sequence[str],
    *,
    model: str,
    data: str,
    data_fingerprint: str,
    temperature: float = 1.0,
    logits_tta: Tensor | None = None,
    skipped: int = 0,
) -> Report:
    """Count everything from the logits (N, num_classes) of the N test images."""
    predicted = logits.argmax(dim=1)
    matrix = confusion_matrix(predicted, labels, len(classes))
    hits, counts = matrix.diagonal().tolist(), matrix.sum(dim=1).tolist()
    precision, f1 = precision_and_f1(matrix, classes)
    logits = logits.double()
    before = reliability_table(F.softmax(logits, dim=1), labels)
    after = reliability_table(F.softmax(logits / temperature, dim=1), labels)
    accuracy_tta = None
    if logits_tta is not None:
        accuracy_tta = (logits_tta.argmax(dim=1) == labels).double().mean().item()
    return Report(
        model=model,
        data=data,
        data_fingerprint=data_fingerprint,
        count=len(labels),
        accuracy=(predicted == labels).double().mean().item(),
        interval=wilson_interval(sum(hits), len(labels)) or (0.0, 1.0),
        accuracy_tta=accuracy_tta,
        top2_accuracy=_top(logits, labels, 2),
        top3_accuracy=_top(logits, labels, 3),
        loss=F.cross_entropy(logits, labels).item(),
        loss_at_temperature=F.cross_entropy(logits / temperature, labels).item(),
        per_class_accuracy=per_class_accuracy(matrix, classes),
        per_class_interval={
            name: wilson_interval(hit, n) for name, hit, n in zip(classes, hits, counts, strict=True)
        },
        per_class_precision=precision,
        per_class_f1=f1,
        per_class_count=dict(zip(classes, counts, strict=True)),
        confusion_matrix=matrix.tolist(),
        most_confused=most_confused(matrix, classes),
        temperature=temperature,
        ece=expected_calibration_error(after),
        ece_before_temperature=expected_calibration_error(before),
        reliability=after,
        reliability_before_temperature=before,
        skipped=skipped,
    )


def evaluate_checkpoint(
    checkpoint: Checkpoint,
    data: DataSet,
    *,
    tta: bool = False,
    should_stop: Callable[[], bool] | None = None,
    on_batch: Callable[[int, int], None] | None = None,
) -> tuple[Report, Tensor]:
    """Measure a checkpoint on the N test images of `data`, in float32.

    Returns:
        The report, and the logits (N, num_classes) it was made from, those of the mirror images left out.

    Raises:
        InputError: the classes are not the checkpoint's, or there are no test images.
        Interrupted: `should_stop` said yes.
    """
    info, model = checkpoint.info, checkpoint.model
    if list(data.classes) != info.classes:
        raise InputError(
            f"The classes of '{data.name}' are not those the network knows "
            f"({', '.join(info.classes[:3])}, ...)."
        )
    if len(data.test) == 0:
        raise InputError(f"'{data.name}' has no test images.")
    passes = 2 if tta else 1
    logits = []
    for i in range(passes):

        def told(done: int, total: int, i: int = i) -> None:
            if on_batch is not None:
                on_batch(i * total + done, passes * total)

        logits.append(
            predict(
                model,
                data.test.images,
                info.mean,
                info.std,
                size=info.image_size,
                device=next(model.parameters()).device,
                mirror=i == 1,
                should_stop=should_stop,
                on_batch=told,
            )
        )
    report = make_report(
        logits[0],
        data.test.labels,
        info.classes,
        model=info.model,
        data=data.name,
        data_fingerprint=data.fingerprint,
        temperature=info.temperature,
        logits_tta=(logits[0] + logits[1]) / 2 if tta else None,
        skipped=data.skipped,
    )
    return report, logits[0]


def prediction_tensors(logits: Tensor, labels: Tensor, temperature: float) -> dict[str, Tensor]:
    """What is kept of the logits (N, num_classes) of test images, by name, for a file."""
    return {
        "indices": torch.arange(len(labels), dtype=torch.int32),
        "labels": labels.to(torch.int16),
        "probabilities": F.softmax(logits / temperature, dim=1).half(),
    }
