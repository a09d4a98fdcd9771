"""The laboratory: networks, data, training, evaluation and inference, without any page."""


class InputError(ValueError):
    """What the person gave can't be used. The message is one line, in their words, with what to do."""
