"""All numbers of one network as the Results tab shows them, alone or beside a second one."""

from html import escape
from typing import Any

from core import InputError
from core.checkpoint import CheckpointInfo
from core.data.cifar10 import CLASSES
from core.evaluation import Report, footprint, mcnemar
from demo import charts, text
from demo.evaluations import Predictions, report_of, stored_predictions
from demo.lab import Lab
from demo.live import charts_of_runs
from demo.markup import button

SLOTS = (
    "html-head",
    "per-class",
    "confusion",
    "html-gallery",
    "html-confused",
    "calibration",
    "html-table",
    "compare-loss",
    "compare-accuracy",
    "html-costs",
    "html-picture",
)
CLOSE = 0.0005  # a probability below is shown as this
# Accuracy of each class in the course report this project began with, in percent, in CIFAR-10's order.
COURSE_REPORT = {
    "resnet18": (93, 100, 78, 74, 95, 90, 98, 100, 93, 96),
    "densenet121_k12": (96, 96, 89, 80, 94, 91, 92, 93, 98, 96),
}


def show_results(
    lab: Lab,
    name: str | None,
    other: str | None = None,
    order: str = "class",
    marks: bool = True,
    shares: bool = False,
    title: str = "",
) -> dict[str, Any]:
    """All numbers of one checkpoint, beside those of a second one if there is one.

    Args:
        title: the data set whose test images count; empty for the checkpoint's own.
    """
    if not name:
        return only_a_sentence(text.NO_CHECKPOINTS)
    try:
        info, report = lab.info(name), report_of(lab, name, title)
    except InputError as error:
        return only_a_sentence(str(error))
    if report is None:
        known = title or lab.title_of(info.data)
        return only_a_sentence(
            text.NOT_EVALUATED.format(data=known or info.data), "evaluate" if known else None, name
        )
    names, shown = [name], [(info, report)]
    if other and other != name:
        second = lab.info(other)
        where = _their_title(lab, title, info, second)
        theirs = None if where is None else report_of(lab, other, where)
        if theirs is not None and second.classes == info.classes:
            names.append(other)
            shown.append((second, theirs))
    networks = [(t, each.model, its) for t, (each, its) in zip(lab.titles_of(names), shown, strict=True)]
    classes = list(info.classes)
    if order == "accuracy":
        classes.sort(key=lambda c: report.per_class_accuracy.get(c) or 0)
    known = COURSE_REPORT.get(info.model) if marks and tuple(info.classes) == CLASSES else None
    course = {c: share / 100 for c, share in zip(CLASSES, known, strict=True)} if known else None
    return {
        "key": name,
        "html": {
            "html-head": _headline(lab, name, other, title, info, networks),
            "html-table": _table(classes, [report for _, _, report in networks]),
            "html-confused": _confused(report),
            "html-gallery": f'<p class="lab-note">{escape(text.CONFUSION_NOTE)}</p>',
            "html-costs": costs_table(lab, names),
            "html-picture": "",
        },
        "figures": {
            "per-class": charts.per_class_figure(name, networks, classes, course),
            "confusion": charts.confusion_figure(name, info.classes, report.confusion_matrix, shares),
            "calibration": charts.calibration_figure(name, info.model, report)
            if report.reliability
            else {"data": [], "layout": {}},
        }
        | _curves(lab, names),
    }


def _curves(lab: Lab, names: list[str]) -> dict[str, Any]:
    """How the networks learned, epoch by epoch, by slot; nothing to draw where a run's log is gone."""
    runs = [lab.run_of(name) for name in names]
    known = [run for run in runs if run.events_file.exists()]
    return charts_of_runs(known, "epoch")


def _their_title(lab: Lab, title: str, info: CheckpointInfo, second: CheckpointInfo) -> str | None:
    """Under which title the second network's answers about the same pictures are found, if anywhere."""
    same = second.data_fingerprint == info.data_fingerprint
    return title or lab.title_of(info.data) or ("" if same else None)


def only_a_sentence(sentence: str, action: str | None = None, name: str | None = None) -> dict[str, Any]:
    """Nothing but a sentence, with a button if something can be done about it."""
    what_to_do = f'<div class="lab-actions">{button(action, text.EVALUATE)}</div>' if action else ""
    empty = {slot: "" for slot in SLOTS if slot.startswith("html-")}
    return {
        "key": name,
        "html": empty | {"html-head": f'<p class="lab-empty">{escape(sentence)}</p>{what_to_do}'},
        "figures": {slot: {"data": [], "layout": {}} for slot in SLOTS if not slot.startswith("html-")},
    }


def change(name: str, slot: str, markup: str) -> dict[str, Any]:
    """A change of the view that leaves all but one slot as it is."""
    return {"key": name, "html": {slot: markup}}


def _headline(
    lab: Lab,
    name: str,
    other: str | None,
    title: str,
    info: CheckpointInfo,
    networks: list[tuple[str, str, Report]],
) -> str:
    report = networks[0][2]
    low, high = report.interval
    facts = [f"{text.count(report.count)} test pictures of {escape(title or info.data_title or info.data)}"]
    if report.accuracy_tta is not None:
        facts.append(f"{text.percent(report.accuracy_tta)} with the mirror image averaged in")
    if report.top2_accuracy is not None and report.top3_accuracy is not None:
        facts.append(f"among its best two {text.percent(report.top2_accuracy)}")
        facts.append(f"three {text.percent(report.top3_accuracy)}")
    facts.append(f"loss {report.loss:.3f}")
    facts.append(f"calibration error {text.percent(report.ece)}")
    facts.append(f"{info.epochs:g} epochs in {text.duration(info.seconds)} on {escape(info.hardware)}")
    if info.origin is not None:
        before = f"{info.origin.epochs:g}", text.duration(info.origin.seconds)
        facts.append(text.BEGAN_WITH.format(file=escape(info.origin.file), epochs=before[0], time=before[1]))
    plus = f"<small>95%: {low * 100:.1f} to {high * 100:.1f}</small>"
    second = ""
    if other and len(networks) == 2:
        second = _second(lab, (name, other), title, networks)
    buttons = "".join(
        f'<button type="button" class="lab-quiet" data-export="{what}">{escape(words)}</button>'
        for what, words in text.REPORT_EXPORTS.items()
    )
    return (
        f'<div class="lab-big">{text.percent(report.accuracy)}</div>{plus}{second}'
        f'<p class="lab-facts">{" · ".join(facts)}</p><div class="lab-actions">{buttons}</div>'
    )


def _second(lab: Lab, names: tuple[str, str], title: str, networks: list[tuple[str, str, Report]]) -> str:
    """The other network's accuracy, whether the difference is chance, and where just one is right."""
    (first_name, _, ours), (second_name, _, theirs) = networks
    points = f"{(ours.accuracy - theirs.accuracy) * 100:+.1f} points"
    both = _both(lab, names, title)
    if both is None:
        chance = text.SAME_PICTURES_NEEDED
        buttons = button("first", text.ASK_BOTH)
    else:
        only = [int((a.right & ~b.right).sum()) for a, b in (both, both[::-1])]
        p = mcnemar(*only)
        chance = text.BY_CHANCE.format(p=f"{p:.3f}" if p >= CLOSE else f"below {CLOSE}")
        buttons = "".join(
            f'<button type="button" data-action="{which}">'
            f"{escape(text.ONLY_BUTTONS.format(name=name, count=text.count(n)))}</button>"
            for which, name, n in zip(("first", "second"), (first_name, second_name), only, strict=True)
        )
    return (
        f'<p class="lab-second">{escape(second_name)} {text.percent(theirs.accuracy)} · '
        f'{text.DIFFERENCE.format(points=points)}{chance}</p><div class="lab-actions">{buttons}</div>'
    )


def _both(lab: Lab, names: tuple[str, str], title: str) -> tuple[Predictions, Predictions] | None:
    """What two networks said of the same pictures, if both have been asked."""
    first, second = (lab.info(name) for name in names)
    ours = stored_predictions(lab, names[0], title)
    where = _their_title(lab, title, first, second)
    theirs = None if where is None else stored_predictions(lab, names[1], where)
    if ours is None or theirs is None or not ours.labels.equal(theirs.labels):
        return None
    return ours, theirs


def _table(classes: list[str], reports: list[Report]) -> str:
    def share(value: float | None) -> str:
        return "–" if value is None else text.percent(value)

    report, theirs = reports[0], reports[1] if len(reports) == 2 else None
    rows = []
    for c in classes:
        span, accuracy = report.per_class_interval.get(c), report.per_class_accuracy.get(c)
        between = f"{span[0] * 100:.1f} – {span[1] * 100:.1f}" if span else "–"
        beside = ""
        if theirs is not None:
            second = theirs.per_class_accuracy.get(c)
            points = "–" if accuracy is None or second is None else f"{(accuracy - second) * 100:+.1f}"
            beside = f"<td>{share(second)}</td><td>{points}</td>"
        rows.append(
            f"<tr><th scope='row'>{escape(c)}</th><td>{share(accuracy)}</td>"
            f"<td>{between}</td>{beside}<td>{share(report.per_class_precision.get(c))}</td>"
            f"<td>{share(report.per_class_f1.get(c))}</td>"
            f"<td>{text.count(report.per_class_count.get(c, 0))}</td></tr>"
        )
    beside = [] if theirs is None else [text.OTHER_NETWORK, text.DIFFERENCE_HEAD]
    heads = [text.CLASS, text.ACCURACY, text.INTERVAL, *beside, text.PRECISION, text.F1, text.COUNT]
    return _rows(heads, rows) + f"<p class='lab-note'>{text.RECALL_NOTE}</p>"


def _rows(heads: list[str], rows: list[str]) -> str:
    return (
        "<div class='lab-scroll'><table class='lab-table'><thead><tr>"
        + "".join(f"<th>{escape(head)}</th>" for head in heads)
        + f"</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def costs_table(lab: Lab, names: list[str], measured: dict[str, float] | None = None) -> str:
    """What each network costs: parameters, file, multiply-adds, and its speed if that was measured."""
    rows = []
    for name, title in zip(names, lab.titles_of(names), strict=True):
        info = lab.info(name)
        rate = f"{text.count(measured[name])}" if measured else "–"
        needs = footprint(info.model, len(info.classes), info.image_size)
        rows.append(
            f"<tr><th scope='row'>{escape(title)}</th>"
            f"<td>{text.short_count(needs.parameters)}</td>"
            f"<td>{text.size(lab.checkpoint_path(name).stat().st_size)}</td>"
            f"<td>{text.short_count(needs.multiply_adds)}</td><td>{rate}</td></tr>"
        )
    after = f"<p class='lab-note'>{text.MEASURED_NOTE}</p>"
    if not measured:
        after = f"<div class='lab-actions'>{button('measure', text.MEASURE)}</div>"
    return _rows(list(text.COST_HEADS), rows) + after


def _confused(report: Report) -> str:
    """The pairs most often confused, as buttons that show their pictures."""
    names = list(report.per_class_accuracy)
    buttons = "".join(
        f'<button type="button" data-action="cell" data-source="{names.index(a)},{names.index(b)}">'
        f"{escape(text.CONFUSED_PAIR.format(truth=a, prediction=b, count=n))}</button>"
        for a, b, n in report.most_confused
    )
    every = f'<button type="button" data-action="all">{text.SHOW_PICTURES}</button>'
    return f'<div class="lab-actions">{every}{buttons}</div>'
