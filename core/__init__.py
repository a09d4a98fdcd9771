"""The laboratory: networks, data, training, evaluation and inference, without any page."""

import os

# Threads that wait for each other spin only briefly, then sleep. Two trainings on two cores, measured:
# with OpenMP's own, endless spinning they got 25 times slower, each waiting for a thread that the other's
# spinning kept from its core; so they get 2 times slower. Alone, nothing is lost. Read when torch loads.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")


class InputError(ValueError):
    """What the person gave can't be used. The message is one line, in their words, with what to do."""


def shown(name: str) -> str:
    """A name for a message, quoted: one line, not long, and printable whatever it holds."""
    return repr(name if len(name) <= 80 else f"{name[:79]}…")
