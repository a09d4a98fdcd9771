"""All runs in a table that keeps itself up to date; sorted, filtered and ticked in the page."""

import threading
import time
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from core.runs import RunSummary
from demo import text
from demo.lab import Lab
from demo.live import SYMBOLS, is_shipped, title_of

WAIT = 1.5  # seconds between two looks
_SCRIPT = (Path(__file__).parent / "run_table.js").read_text("utf-8")


class RowsRequest(BaseModel):
    """What the page sends to keep its table true: the stamp of the last answer."""

    model_config = ConfigDict(extra="forbid")

    stamp: int = Field(ge=0, le=2**53)


class Rows:
    """The rows of all runs, with a stamp each of when they changed, so that only changes are sent."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._lock = threading.Lock()
        self._rows: dict[str, tuple[dict[str, Any], int]] = {}
        self._first = self._stamp = time.time_ns() // 1_000_000
        self._looked = 0.0

    def read(self, request: Any) -> dict[str, Any]:
        """`{"stamp", "wait", "rows": changed since the stamp given, "ids": all, or absent if the same}`."""
        try:
            since = RowsRequest.model_validate(request).stamp
        except ValidationError:
            since = 0
        with self._lock:
            if time.monotonic() - self._looked > WAIT / 3:  # many pages ask; one look serves them
                self._look()
                self._looked = time.monotonic()
            if not self._first <= since <= self._stamp:
                since = 0  # of another server
            answer: dict[str, Any] = {"stamp": self._stamp, "wait": WAIT}
            if since < self._stamp:
                answer["rows"] = [row for row, stamp in self._rows.values() if stamp > since]
                answer["ids"] = list(self._rows)
            return answer

    def _look(self) -> None:
        runs = {run.id: _row(run) for run in self._lab.runs()}
        changed = [i for i, row in runs.items() if i not in self._rows or self._rows[i][0] != row]
        if not changed and len(runs) == len(self._rows):
            return
        self._stamp = max(self._stamp + 1, time.time_ns() // 1_000_000)
        self._rows = {i: (row, self._stamp if i in changed else self._rows[i][1]) for i, row in runs.items()}


def _row(run: RunSummary) -> dict[str, Any]:
    return {
        "id": run.id,
        "model": title_of(run.model),
        "data": run.data,
        "preset": run.preset,
        "status": run.status,
        "words": text.SHIPPED
        if is_shipped(run.id)
        else f"{SYMBOLS.get(run.status, '◦')} {text.STATUS.get(run.status, run.status)}",
        "accuracy": None if run.accuracy is None else round(run.accuracy, 4),
        "seconds": round(run.seconds),
        "created": round(run.created),
    }


class RunTable(gr.HTML):
    """The table. A press on a row arrives as a click with `{"run"}`, a tick as input with `{"ticked": [ids]}`
    in the value."""

    def __init__(self, read: Any, **options: Any) -> None:
        heads = "".join(
            f'<th><button type="button" data-sort="{key}">{escape(words)}</button></th>'
            for key, words in text.RUN_COLUMNS.items()
        )
        super().__init__(
            value={},
            html_template=(
                f'<div class="lab-runs-top"><h3>{escape(text.ALL_RUNS)}</h3>'
                f'<input type="search" placeholder="{escape(text.FILTER_RUNS)}" '
                f'aria-label="{escape(text.FILTER_RUNS)}"></div>'
                f'<p class="lab-note">{escape(text.TICK_RUNS)}</p><div class="lab-scroll">'
                f'<table class="lab-runs"><thead><tr><th></th>{heads}</tr></thead>'
                "<tbody></tbody></table></div>"
            ),
            js_on_load=_SCRIPT,
            server_functions=[read],
            apply_default_css=False,
            **options,
        )

    def get_block_name(self) -> str:
        return "html"

    def api_info(self) -> dict[str, Any]:
        return {"type": "object"}
