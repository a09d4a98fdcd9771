"""Data sets that people bring: a zip of labelled folders, checked once, then a data set like any other."""

import base64
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path

import torch

from core import InputError
from core.data import DataSet, load_data
from core.files import replace_atomically, write_json
from core.runs.glimpse import side_by_side
from demo import text

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _-]{0,39}")
MAX_BYTES = 500 * 2**20
EXAMPLES = 10  # classes of which one picture is shown


@dataclass(frozen=True)
class Uploads:
    """A folder of archives; one counts once its description lies beside it.

    Args:
        folder: where the archives are kept.
        data_dir: where decoded copies are kept.
    """

    folder: Path
    data_dir: Path

    def sources(self) -> dict[str, str]:
        """Name -> path of every data set that people have brought."""
        return {path.stem: str(self._zip(path.stem)) for path in sorted(self.folder.glob("*.json"))}

    def add(
        self, name: str, file: Path, taken: set[str], progress: Callable[[str, int, int], None]
    ) -> DataSet:
        """Check an archive by loading it, and keep it under `name`.

        Raises:
            InputError: the name can't be used, or the archive can't; nothing is kept then.
        """
        name = name.strip()
        if not NAME.fullmatch(name):
            raise InputError(text.UPLOAD_NAME)
        if name.lower() in {other.lower() for other in taken}:
            raise InputError(text.UPLOAD_TAKEN.format(name=name))
        if file.suffix.lower() != ".zip" or file.stat().st_size > MAX_BYTES:
            raise InputError(text.UPLOAD_ZIP)
        self.folder.mkdir(parents=True, exist_ok=True)
        kept = self._zip(name)
        try:
            replace_atomically(kept, lambda part: shutil.copyfile(file, part))
            data = load_data(str(kept), data_dir=self.data_dir, progress=progress)
        except BaseException:
            kept.unlink(missing_ok=True)
            raise
        labels = data.train.labels
        first = (labels[None] == torch.arange(min(len(data.classes), EXAMPLES))[:, None]).int().argmax(dim=1)
        sheet = side_by_side(data.train.images[first])
        replace_atomically(self._examples(name), lambda part: sheet.save(part, "PNG"))
        counts = {"train": len(data.train), "test": len(data.test), "skipped": data.skipped}
        write_json(self._about(name), counts | {"classes": list(data.classes)})
        return data

    def remove(self, name: str) -> None:
        """Forget a data set. Raises InputError where there is none of that name."""
        if name not in self.sources():
            raise InputError(text.NO_DATA)
        for path in (self._about(name), self._examples(name), self._zip(name)):
            path.unlink(missing_ok=True)

    def describe(self, name: str) -> str:
        """Markup: how many images, which classes, and a picture of each of the first few."""
        if name not in self.sources():
            return ""
        try:
            about = json.loads(self._about(name).read_text("utf-8"))
            sheet = base64.b64encode(self._examples(name).read_bytes()).decode()
        except (OSError, ValueError):
            return ""
        words = text.UPLOAD_ABOUT.format(
            train=text.count(about["train"]), test=text.count(about["test"]), classes=len(about["classes"])
        )
        skipped = f" {text.UPLOAD_SKIPPED.format(count=about['skipped'])}" if about["skipped"] else ""
        names = ", ".join(escape(name) for name in about["classes"])
        return (
            f'<p class="lab-note">{words}{skipped}</p><p class="lab-note">{names}</p>'
            f'<img class="lab-examples" alt="" src="data:image/png;base64,{sheet}">'
        )

    def _zip(self, name: str) -> Path:
        return self.folder / f"{name}.zip"

    def _about(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _examples(self, name: str) -> Path:
        return self.folder / f"{name}.png"
