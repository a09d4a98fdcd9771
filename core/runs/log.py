"""The event log of a run: appended to by its worker, read from a cursor by anyone."""

import contextlib
import json
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any

Event = dict[str, Any]


def status_event(status: str, reason: str = "") -> Event:
    """A `status` event of now."""
    return {"type": "status", "time": time.time(), "status": status, "reason": reason}


class EventLog:
    """Appends events, one JSON object a line. Ends a line that was torn by a crash first."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "ab+")  # noqa: SIM115 - closed by close()
        if self._file.tell() > 0:
            self._file.seek(-1, os.SEEK_END)
            if self._file.read(1) != b"\n":
                self._file.write(b"\n")

    def __enter__(self) -> "EventLog":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def write(self, event: Event) -> None:
        """Add an event; it may wait in memory until `flush`."""
        line = json.dumps(event, separators=(",", ":"), allow_nan=False)
        self._file.write(line.encode() + b"\n")

    def flush(self) -> None:
        """Let readers see what was written."""
        self._file.flush()

    def sync(self) -> None:
        """Make sure that a power cut can't take what was written."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self.sync()
        self._file.close()


def read_events(path: Path, cursor: int = 0, limit: int = -1) -> tuple[list[Event], int]:
    """Whole events from the byte `cursor` on, and the cursor to go on from; at most `limit` bytes.

    A torn or foreign line is passed over; what follows is still read. A log that has become shorter
    than the cursor is read from its start.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(cursor if 0 <= cursor <= size else 0)
            start = file.tell()
            data = file.read(limit)
    except OSError:
        return [], 0
    whole = data.rfind(b"\n") + 1
    events = []
    for line in data[:whole].splitlines():
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            if isinstance(event, dict) and isinstance(event.get("type"), str):
                events.append(event)
    return events, start + whole


def settle(events: list[Event]) -> list[Event]:
    """Drop what a resume has made void: step and epoch events at or beyond its `from_step`."""
    settled: list[Event] = []
    for event in events:
        if event["type"] == "status" and isinstance(event.get("from_step"), int):
            first = event["from_step"]
            settled = [e for e in settled if e["type"] not in ("step", "epoch") or e.get("step", 0) < first]
        settled.append(event)
    return settled
