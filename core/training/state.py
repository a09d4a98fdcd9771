"""All that an exact resume needs, in one safetensors file: tensors, and the rest as JSON in its header."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from core import InputError
from core.files import save_tensors

KEY = "training_state"
VERSION = 1


@dataclass(frozen=True)
class TrainingState:
    """A training between two steps.

    Attributes:
        tensors: weights, optimizer, averages, sums of the running epoch.
        values: step, epoch, seconds, and the decisions that have to stay as they are.
    """

    tensors: dict[str, Tensor]
    values: dict[str, Any]

    def group(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names start with `prefix.`, without it."""
        start = len(prefix) + 1
        return {k[start:]: v for k, v in self.tensors.items() if k.startswith(f"{prefix}.")}


def save_state(path: Path, state: TrainingState) -> None:
    """Write atomically. Raises OSError where the disk is full; the last state is then intact."""
    header = {KEY: json.dumps({"version": VERSION, **state.values})}
    save_tensors(path, state.tensors, header)


def load_state(path: Path) -> TrainingState:
    """Read a saved state.

    Raises:
        InputError: there is none, or it can't be read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            values = json.loads((file.metadata() or {})[KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, json.JSONDecodeError):
        raise InputError(f"There is no readable saved state in '{path}'.") from None
    if values.pop("version", None) != VERSION:
        raise InputError(f"The saved state '{path}' is of another version of this program.")
    return TrainingState(tensors, values)
