"""A table of many classified pictures: the first ones on the page, all of them as CSV."""

import csv
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from html import escape
from pathlib import Path, PurePosixPath

from core import InputError
from core.data import Progress
from core.data.folders import is_hidden, list_zip
from core.data.pictures import PictureError
from core.files import replace_atomically
from core.inference.batch import Classified, classify_many
from demo import text
from demo.answers import verdict
from demo.lab import Lab
from demo.markup import as_image, png_url

SHOWN_ROWS = 100
MAX_PICTURES = 20_000  # at once, also in archives
MAX_ARCHIVES = 50
MAX_ARCHIVE_BYTES = 500 * 2**20
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would run a cell that begins so

Pictures = list[tuple[str, Callable[[], bytes | Path]]]


def classify_files(lab: Lab, names: list[str], files: list[str], out: Path, told: Progress) -> str:
    """Classify picture files and the pictures in zips; writes a CSV to `out`.

    Returns:
        Markup of the first rows.

    Raises:
        InputError: no files, or an archive that can't be used.
    """
    with ExitStack() as stack:
        pictures = _find(files, stack)
        if not pictures:
            raise InputError(text.NO_PICTURE)
        checkpoints = [lab.checkpoint(name) for name in names]
        titles = lab.titles_of(names)
        classes = [checkpoint.info.classes for checkpoint in checkpoints]
        rows: list[str] = []
        done = 0

        def read_unless_cancelled(read: Callable[[], bytes | Path]) -> bytes | Path:
            told("classify", done, len(pictures))  # ends the job at the next picture, not the next batch
            return read()

        pictures = [(name, partial(read_unless_cancelled, read)) for name, read in pictures]

        def write(part: Path) -> None:
            nonlocal done
            with open(part, "w", newline="", encoding="utf-8") as file:
                table = csv.writer(file)
                table.writerow(["file", "error", *_heads(titles, classes)])
                for done, found in enumerate(classify_many(checkpoints, pictures), 1):
                    table.writerow([_harmless(found.file), found.error or "", *_cells(found, classes)])
                    if len(rows) < SHOWN_ROWS:
                        rows.append(_row(found, len(checkpoints)))
                    told("classify", done, len(pictures))

        replace_atomically(out, write)
    words = text.MORE_ROWS if len(pictures) > len(rows) else text.MANY_DONE
    words = words.format(shown=len(rows), count=text.count(len(pictures)))
    heads = "".join(f"<th>{escape(head)}</th>" for head in ("", text.FILE, *titles))
    return (
        f'<p class="lab-note lab-say">{escape(words)}</p><div class="lab-scroll">'
        f'<table class="lab-table lab-many"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _find(files: list[str], stack: ExitStack) -> Pictures:
    """Names and ways to read them; files of the same name are numbered, and what is in an archive carries its
    name where there is more than that archive."""
    pictures: Pictures = []
    paths = [path for path in map(Path, dict.fromkeys(files)) if not is_hidden((path.name,))]
    too_many = InputError(text.MANY_LIMIT.format(pictures=text.count(MAX_PICTURES), archives=MAX_ARCHIVES))
    if sum(path.suffix.lower() == ".zip" for path in paths) > MAX_ARCHIVES:
        raise too_many
    seen: Counter[str] = Counter()
    for path in paths:
        seen[path.name] += 1
        name = f"{path.name} ({seen[path.name]})" if seen[path.name] > 1 else path.name
        if path.suffix.lower() != ".zip":
            pictures.append((name, lambda path=path: path))
        else:
            try:
                if path.stat().st_size > MAX_ARCHIVE_BYTES:
                    raise InputError(text.UPLOAD_ZIP)
                listing = stack.enter_context(list_zip(path, MAX_PICTURES))
            except InputError as error:
                pictures.append((name, partial(_refuse, str(error).rstrip("."))))
            else:
                before = (name,) if len(paths) > 1 else ()
                pictures += [
                    (str(PurePosixPath(*before, *p)), partial(listing.read, key)) for p, key in listing.files
                ]
        if len(pictures) > MAX_PICTURES:
            raise too_many
    return pictures


def _refuse(reason: str) -> bytes:
    raise PictureError(reason)


def _heads(titles: list[str], classes: list[list[str]]) -> Iterator[str]:
    for title, names in zip(titles, classes, strict=True):
        yield from (f"{title} label", f"{title} verdict")
        yield from (f"{title} {name}" for name in names)


def _cells(found: Classified, classes: list[list[str]]) -> Iterator[str]:
    for said, names in zip(found.answers, classes, strict=False):  # no answers for a broken file
        yield from (_harmless(said.predictions[0][0]), said.verdict)
        shares = dict(said.predictions)
        yield from (f"{shares[name]:.4f}" for name in names)


def _harmless(name: str) -> str:
    return f"'{name}" if name.startswith(FORMULA) else name


def _row(found: Classified, networks: int) -> str:
    picture = "" if found.thumbnail is None else f'<img src="{png_url(as_image(found.thumbnail))}" alt="">'
    if found.error is not None:
        said = f'<td colspan="{networks}">{escape(text.BAD_PICTURE.format(reason=found.error))}</td>'
    else:
        said = "".join(
            f"<td>{escape(verdict(answer))} "
            f'<span class="lab-number">{text.percent(answer.predictions[0][1])}</span></td>'
            for answer in found.answers
        )
    return f"<tr><td>{picture}</td><th scope='row'>{escape(found.file)}</th>{said}</tr>"
