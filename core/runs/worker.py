"""Starting a worker as a process of its own, and asking it to pause or stop."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Literal

from core.files import replace_atomically
from core.runs.folder import RunFolder

PROJECT = Path(__file__).resolve().parents[2]


def launch(folder: RunFolder, data_dir: Path) -> None:
    """Start `python -m core train --resume FOLDER` in the background.

    It is in a process group and, where there are such, a session of its own: it outlives the app, a
    closed page and a closed terminal.
    """
    command = [sys.executable, "-m", "core", "train"]
    command += ["--resume", str(folder.path.resolve()), "--data-dir", str(data_dir.resolve())]
    with open(folder.worker_log, "ab") as log:
        process = subprocess.Popen(
            command,
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    threading.Thread(target=process.wait, daemon=True).start()  # so that it leaves no zombie


def request_stop(folder: RunFolder, action: Literal["pause", "stop"]) -> None:
    """Ask the run's worker to save and end; it looks several times a second."""
    replace_atomically(folder.request_file, lambda part: part.write_text(action))


def asked_to(folder: RunFolder) -> str | None:
    """What the worker of this run was asked to do, if anything."""
    try:
        action = folder.request_file.read_text()
    except OSError:
        return None
    return action if action in ("pause", "stop") else None


def forget_request(folder: RunFolder) -> None:
    """Before starting anew: an old request is void."""
    folder.request_file.unlink(missing_ok=True)
