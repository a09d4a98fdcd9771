"""The laboratory: networks, data, training, evaluation and inference, without any page."""


class InputError(ValueError):
    """What the person gave can't be used. The message is one line, in their words, with what to do."""


def shown(name: str) -> str:
    """A name for a message, quoted: one line, not long, and printable whatever it holds."""
    return repr(name if len(name) <= 80 else f"{name[:79]}…")
