"""The report: everything counted from one pass over the test set."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from core import InputError
from core.checkpoint import Checkpoint
from core.data.image_set import DataSet
from core.evaluation.calibration import expected_calibration_error
from core.evaluation.predict import predict


class Report(BaseModel):
    """How a network did on the test images of a data set. Accuracies are fractions.

    Attributes:
        loss: mean cross-entropy at temperature 1.
        accuracy_tta: with logits averaged over image and mirror image; None where not measured.
        per_class_accuracy: None for a class without test images.
        per_class_count: test images of each class.
        confusion_matrix: counts, [truth][prediction].
        ece: expected calibration error at `temperature`.
        skipped: files of the data set that could not be read and are not counted.
    """

    model_config = ConfigDict(extra="ignore")

    model: str
    data: str
    data_fingerprint: str
    count: int
    accuracy: float
    accuracy_tta: float | None = None
    loss: float
    per_class_accuracy: dict[str, float | None]
    per_class_count: dict[str, int]
    confusion_matrix: list[list[int]]
    temperature: float
    ece: float
    ece_before_temperature: float
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
    accuracy_tta = None
    if logits_tta is not None:
        accuracy_tta = (logits_tta.argmax(dim=1) == labels).double().mean().item()
    return Report(
        model=model,
        data=data,
        data_fingerprint=data_fingerprint,
        count=len(labels),
        accuracy=(predicted == labels).double().mean().item(),
        accuracy_tta=accuracy_tta,
        loss=F.cross_entropy(logits.double(), labels).item(),
        per_class_accuracy=per_class_accuracy(matrix, classes),
        per_class_count=dict(zip(classes, matrix.sum(dim=1).tolist(), strict=True)),
        confusion_matrix=matrix.tolist(),
        temperature=temperature,
        ece=expected_calibration_error(F.softmax(logits.double() / temperature, dim=1), labels),
        ece_before_temperature=expected_calibration_error(F.softmax(logits.double(), 1), labels),
        skipped=skipped,
    )


def evaluate_checkpoint(
    checkpoint: Checkpoint,
    data: DataSet,
    *,
    tta: bool = False,
    should_stop: Callable[[], bool] | None = None,
    on_batch: Callable[[int, int], None] | None = None,
) -> Report:
    """Measure a checkpoint on the test images of `data`, in float32.

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
    return make_report(
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
