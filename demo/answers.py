"""What one or two networks say of a visitor's picture, as markup, and the reason."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from PIL import Image
from torch import Tensor

from core import InputError
from core.checkpoint import Checkpoint
from core.data.pictures import WHOLE, Frame, PictureError, cut, read_picture
from core.inference import Answer, Distortion, classify_views, grad_cam, overlay, view
from demo import text
from demo.charts import NETWORK_COLOURS, SECOND
from demo.lab import Lab
from demo.markup import as_image, bars, jpeg_url, png_url

TOP = 5
HEAT_SIDE = 1024  # pixels of a heat map, at most
SEEN_SCALE = 5  # a pixel of the network is shown so many pixels wide


NO_HARM = Distortion()


@dataclass(frozen=True)
class Question:
    """What is asked: which networks, which part of the picture, with which harm, the reason for what."""

    names: tuple[str, ...]
    frame: Frame = WHOLE
    harm: Distortion = NO_HARM
    label: str | None = None  # the class whose reason is shown; None for the one said


def read_file(path: str | None) -> Image.Image:
    """The picture in a file.

    Raises:
        InputError: there is none, or it can't be used; in one sentence for a person.
    """
    if not path:
        raise InputError(text.NO_PICTURE)
    try:
        return read_picture(path)
    except PictureError as error:
        raise InputError(text.BAD_PICTURE.format(reason=error)) from None


def answer(lab: Lab, name: str, image: Image.Image, question: Question) -> tuple[Checkpoint, Tensor, Answer]:
    """A network, the pixels (3, size, size) uint8 that it sees, and what it says."""
    checkpoint = lab.checkpoint(name)
    seen = view(image, checkpoint.info.image_size, question.frame, question.harm)
    return checkpoint, seen, classify_views(checkpoint, seen[None])[0]


def show_answers(lab: Lab, image: Image.Image, question: Question) -> str:
    """Markup: what the networks say together, then for each the verdict, its best classes, what it sees and
    why."""

    titles = lab.titles_of(question.names)

    def ask(name: str, title: str) -> tuple[Answer, str]:
        checkpoint, seen, said = answer(lab, name, image, question)
        return said, _section(lab, title, checkpoint, seen, said, image, question)

    answers, sections = zip(*lab.beside.map(ask, question.names, titles), strict=True)
    summary = f'<p class="lab-together lab-say">{escape(together(titles, answers))}</p>'
    return f'{summary if len(answers) > 1 else ""}<div class="lab-answers">{"".join(sections)}</div>'


def verdict(said: Answer) -> str:
    """In words."""
    (first, _), (second, _) = said.predictions[:2]
    sentence = {"sure": text.SURE, "unsure": text.UNSURE, "none": text.NONE}[said.verdict]
    return sentence.format(a=first, b=second, count=len(said.predictions))


def together(titles: Sequence[str], answers: Sequence[Answer]) -> str:
    """What several networks say, in one sentence."""
    labels = [said.predictions[0][0] for said in answers]
    strangers = [said.verdict == "none" for said in answers]
    if all(strangers):
        return text.ALL_NONE.format(count=len(answers[0].predictions))
    if any(strangers):
        known = strangers.index(False)
        sentence = text.SOME_NONE if answers[known].verdict == "sure" else text.SOME_NONE_UNSURE
        return sentence.format(title=titles[known], a=labels[known], other=titles[strangers.index(True)])
    if len(set(labels)) > 1:
        return text.DISAGREE.format(
            said=", ".join(
                text.ONE_SAYS.format(title=title, a=label)
                for title, label in zip(titles, labels, strict=True)
            )
        )
    sure = [title for title, said in zip(titles, answers, strict=True) if said.verdict == "sure"]
    if len(sure) == len(answers):
        return text.AGREE.format(a=labels[0])
    return (text.AGREE_ONE_SURE if sure else text.AGREE_UNSURE).format(a=labels[0], title="".join(sure))


def _section(
    lab: Lab,
    title: str,
    checkpoint: Checkpoint,
    seen: Tensor,
    said: Answer,
    image: Image.Image,
    question: Question,
) -> str:
    info = checkpoint.info
    label = question.label if question.label in info.classes else said.predictions[0][0]
    _, heat = grad_cam(checkpoint, seen, [info.classes.index(label)])
    if question.harm.changes_nothing:  # the picture itself, at its own resolution
        ground = cut(image, question.frame)
        ground.thumbnail((HEAT_SIDE, HEAT_SIDE))
    else:
        ground = as_image(seen).resize((SEEN_SCALE * info.image_size,) * 2, 0)
    sees, why = escape(text.SEES.format(size=info.image_size)), escape(text.SPEAKS_FOR.format(label=label))
    strange = ' class="lab-strange"' if said.verdict == "none" else ""
    return (
        f'<section{strange}><h4>{escape(title)}</h4><p class="lab-verdict lab-say">'
        f"{escape(verdict(said))}</p>"
        + ("" if info.none_threshold is not None else f'<p class="lab-note">{escape(text.NEVER_NONE)}</p>')
        + bars(said.predictions[:TOP], NETWORK_COLOURS.get(info.model, SECOND))
        + '<div class="lab-heats">'
        + _figure("lab-heat lab-sees", png_url(as_image(seen)), sees)
        + _figure("lab-heat", jpeg_url(overlay(ground, heat[0])), why)
        + f"</div>{_similar(lab, checkpoint, said)}</section>"
    )


def _figure(kind: str, picture: str, words: str) -> str:
    """A picture that a press enlarges; `words` come escaped."""
    return (
        f'<figure class="{kind}"><button type="button" class="lab-enlarge" title="{escape(text.ENLARGE)}">'
        f'<img src="{picture}" alt="{words}"></button><figcaption>{words}</figcaption></figure>'
    )


def _similar(lab: Lab, checkpoint: Checkpoint, said: Answer) -> str:
    """The training pictures that look most alike to the network, where they are at hand."""
    info = checkpoint.info
    images = lab.training_images(info) if said.similar else None
    if images is None or max(said.similar) >= len(images):
        return ""
    pictures = "".join(
        f'<figure class="lab-picture"><img src="{png_url(as_image(images.images[i]))}" alt="">'
        f"<figcaption>{escape(info.classes[int(images.labels[i])])}</figcaption></figure>"
        for i in said.similar
    )
    note = escape(text.SIMILAR.format(count=text.count(len(checkpoint.bank_images))))
    return f'<p class="lab-note">{note}</p><div class="lab-strip">{pictures}</div>'


def as_record(said: Answer, top: int) -> dict[str, Any]:
    """For the API."""
    return {
        "label": said.predictions[0][0],
        "verdict": said.verdict,
        "probabilities": dict(said.predictions[: max(top, 1)]),
        "in_distribution_score": said.in_distribution_score,
    }
