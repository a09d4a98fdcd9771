"""Runs: a folder for each, its log, its worker, and the list of all of them."""

from core.runs.folder import RunFolder, RunSummary, find_run, list_runs, new_run_id, summarise
from core.runs.log import EventLog, read_events
from core.runs.queue import delete, enqueue, move, pause_or_stop, start_next, waiting
from core.runs.work import create_run, execute
from core.runs.worker import launch, request_stop

__all__ = [
    "EventLog",
    "RunFolder",
    "RunSummary",
    "create_run",
    "delete",
    "enqueue",
    "execute",
    "find_run",
    "launch",
    "list_runs",
    "move",
    "new_run_id",
    "pause_or_stop",
    "read_events",
    "request_stop",
    "start_next",
    "summarise",
    "waiting",
]
