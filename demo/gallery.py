"""Test pictures behind a number, and one of them looked at closely."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from html import escape
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from core.checkpoint import Checkpoint
from core.data import DataSet
from core.inference import grad_cam, overlay
from demo import text
from demo.charts import NETWORK_COLOURS, SECOND
from demo.evaluations import Predictions
from demo.markup import as_image, bars, button, png_url

PAGE_PICTURES = 24
SHOWN_CLASSES = 10  # of a picture that is looked at closely
LARGE = 192  # pixels a side


@dataclass(frozen=True)
class Look:
    """Which pictures are looked at: of a class, of a cell, or those that only one of two gets right."""

    truth: int | None = None
    prediction: int | None = None
    only: Literal["first", "second"] | None = None
    page: int = 1

    def turned(self, pages: int) -> "Look":
        return replace(self, page=max(self.page + pages, 1))


def choose(look: Look, said: Predictions, other: Predictions | None) -> Tensor:
    """Mask (N,) of the pictures that are looked at."""
    chosen = torch.ones_like(said.labels, dtype=torch.bool)
    if look.truth is not None:
        chosen &= said.labels == look.truth
    if look.prediction is not None:
        chosen &= said.predicted == look.prediction
    if look.only is not None and other is not None:
        first, second = (said, other) if look.only == "first" else (other, said)
        chosen &= first.right & ~second.right
    return chosen


def gallery(
    classes: list[str], data: DataSet, look: Look, said: Predictions, other: Predictions | None = None
) -> str:
    """Markup of one page of pictures; the surest mistakes come first.

    Args:
        said, other: what the network, and the one beside it, say of all test images.
    """
    found = said.mistakes_first(choose(look, said, other))
    pages = max(-(-len(found) // PAGE_PICTURES), 1)
    page = min(look.page, pages)
    count = text.count(len(found))
    if look.only is not None:
        title = (text.ONLY_FIRST if look.only == "first" else text.ONLY_SECOND).format(count=count)
    elif look.truth is None:
        title = text.ALL_TITLE.format(count=count)
    elif look.prediction is None:
        title = text.ROW_TITLE.format(truth=classes[look.truth], count=count)
    else:
        title = text.CELL_TITLE.format(
            truth=classes[look.truth], prediction=classes[look.prediction], count=count
        )
    figures = []
    for index in found[(page - 1) * PAGE_PICTURES : page * PAGE_PICTURES].tolist():
        label, guess = int(said.labels[index]), int(said.predicted[index])
        right = label == guess
        figures.append(
            f'<figure class="lab-picture {"" if right else "lab-wrong"}">'
            f'<button type="button" data-action="picture" data-source="{index}">'
            f'<img src="{png_url(as_image(data.test.images[index]))}" '
            f'alt="{escape(text.LOOK_CLOSER.format(index=index))}"></button>'
            f"<figcaption>{text.TRUTH} <b>{escape(classes[label])}</b><br>"
            f"{'✓' if right else '✗'} {text.PREDICTION} <b>{escape(classes[guess])}</b><br>"
            f"{text.SURE_OF_IT.format(p=text.percent(float(said.probabilities[index, guess])))}"
            "</figcaption></figure>"
        )
    turn = ""
    if pages > 1:
        back = button("back", text.EARLIER) if page > 1 else ""
        on = button("on", text.LATER) if page < pages else ""
        where = text.PAGE.format(page=page, pages=pages)
        turn = f"<div class='lab-actions'>{back}{on}<span>{where}</span></div>"
    return f"<h3>{escape(title)}</h3>{turn}<div class='lab-strip'>{''.join(figures)}</div>"


def close_look(networks: Iterable[tuple[str, Checkpoint]], data: DataSet, index: int) -> str:
    """Markup of a dialog: the picture, what each network says, and where it sees what speaks for it.

    Args:
        networks: what to call them, and themselves.
    """
    pixels, truth = data.test.images[index], int(data.test.labels[index])
    classes = list(data.classes)
    picture = as_image(pixels).resize((LARGE, LARGE), 0)
    columns = []
    for title, checkpoint in networks:
        logits, heat = grad_cam(checkpoint, pixels, [None, truth])
        probabilities = F.softmax(logits.double() / checkpoint.info.temperature, dim=0)
        guess = int(probabilities.argmax())
        targets = [guess] if guess == truth else [guess, truth]
        maps = "".join(
            f'<figure class="lab-heat"><img src="{png_url(overlay(picture, heat[i]))}" '
            f'alt="{escape(text.SPEAKS_FOR.format(label=classes[c]))}"><figcaption>'
            f"{escape(text.SPEAKS_FOR.format(label=classes[c]))}"
            f"{f' ({text.TRUTH})' if c == truth else ''}</figcaption></figure>"
            for i, c in enumerate(targets)
        )
        best = probabilities.argsort(descending=True)[:SHOWN_CLASSES].tolist()
        if truth not in best:
            best[-1] = truth
        info = checkpoint.info
        columns.append(
            f"<section><h4>{escape(title)}</h4><p>{'✓' if guess == truth else '✗'} "
            f"{text.PREDICTION} <b>{escape(classes[guess])}</b></p>"
            + bars(
                [(classes[c], float(probabilities[c])) for c in best],
                NETWORK_COLOURS.get(info.model, SECOND),
                classes[truth],
            )
            + f'<div class="lab-heats">{maps}</div></section>'
        )
    return (
        f'<dialog class="lab-dialog" aria-label="{escape(text.LOOK_CLOSER.format(index=index))}"><header>'
        f"<h3>{escape(text.TRUTH_IS.format(label=classes[truth]))}</h3>"
        f'<button type="button" data-close aria-label="{text.CLOSE}">✕</button></header>'
        f'<div class="lab-columns"><img class="lab-large" src="{png_url(as_image(pixels))}" alt="">'
        f'{"".join(columns)}</div><p class="lab-note">{escape(text.HEAT_NOTE)}</p></dialog>'
    )
