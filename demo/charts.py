"""Plain data to plotly figures: pure functions, no colours of text or background (the page's theme)."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from core.evaluation import Report
from demo import text

NETWORK_COLOURS = {
    "resnet18": "#3b82c4",
    "plain18": "#3b82c4",
    "densenet121_k12": "#d9822b",
    "densenet121_k32": "#d9822b",
    "simple_cnn": "#84878c",
}
# Told apart with any colour vision, on paper and on ink (after P. Tol's "bright" and "vibrant" sets).
CLASS_COLOURS = (
    "#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee",
    "#aa3377", "#ee7733", "#009988", "#9970ab", "#8c8c8c",
)  # fmt: skip
CLASS_DASHES = ("solid", "dash")  # the second ten classes
SECOND = "#9a6fb0"  # the other curve of a chart, where the first has the network's colour
FAINT = 0.28

Figure = dict[str, Any]


def _figure(traces: Sequence[Any], key: str, **layout: Any) -> Figure:
    """As plain JSON, without plotly's default template (6.5 kB); a zoom stays while `key` does."""
    figure = go.Figure(list(traces))
    figure.update_layout(
        template=None,
        uirevision=key,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        **{
            "hovermode": "x unified",
            "margin": {"l": 48, "r": 12, "t": 8, "b": 36},
            "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
            **layout,
        },
    )
    document = figure.to_plotly_json()
    document["layout"].pop("template", None)
    return document


def loss_figure(
    key: str,
    model: str,
    steps: Sequence[int],
    losses: Sequence[float],
    test_steps: Sequence[int],
    test_losses: Sequence[float],
) -> Figure:
    """Loss against steps: trace 0 each step, faint; 1 smoothed by the page; 2 test at each epoch."""
    colour = NETWORK_COLOURS.get(model, SECOND)
    return _figure(
        [
            go.Scatter(
                x=list(steps), y=list(losses), name="each step", mode="lines", opacity=FAINT,
                line={"color": colour, "width": 1}, hoverinfo="skip",
            ),
            go.Scatter(
                x=[], y=[], name="training, smoothed", mode="lines", meta={"smooths": 0},
                line={"color": colour, "width": 2.2}, hovertemplate="%{y:.3f}",
            ),
            go.Scatter(
                x=list(test_steps), y=list(test_losses), name="test", mode="lines+markers",
                line={"color": SECOND, "width": 1.2, "dash": "dot"},
                marker={"size": 8, "symbol": "diamond"}, hovertemplate="%{y:.3f}",
            ),
        ],
        key,
        xaxis={"title": {"text": "step"}},
        yaxis={"rangemode": "tozero"},
    )  # fmt: skip


def accuracy_figure(
    key: str, model: str, epochs: Sequence[int], train: Sequence[float], test: Sequence[float]
) -> Figure:
    """Accuracy against epochs: trace 0 on training images, 1 on test images."""
    colour = NETWORK_COLOURS.get(model, SECOND)
    return _figure(
        [
            go.Scatter(
                x=list(epochs), y=list(train), name="training", mode="lines+markers",
                line={"color": colour, "width": 1.6}, marker={"size": 6},
                hovertemplate="%{y:.1%}",
            ),
            go.Scatter(
                x=list(epochs), y=list(test), name="test", mode="lines+markers",
                line={"color": SECOND, "width": 2.2}, marker={"size": 8, "symbol": "diamond"},
                hovertemplate="%{y:.1%}",
            ),
        ],
        key,
        xaxis={"title": {"text": "epoch"}, "rangemode": "tozero"},
        yaxis={"tickformat": ".0%", "range": [0, 1]},
    )  # fmt: skip


def per_class_figure(
    key: str,
    networks: Sequence[tuple[str, str, Report]],
    order: Sequence[str],
    marks: Mapping[str, float] | None = None,
) -> Figure:
    """A bar for each class and network, with its number and 95% interval; none for a class without images.

    Args:
        networks: (name, network, report) of one or two.
        order: the classes, from the top.
        marks: reference accuracies of the first network, fractions.
    """
    traces: list[Any] = []
    alike = len({NETWORK_COLOURS.get(model, SECOND) for _, model, _ in networks}) < len(networks)
    for nth, (name, model, report) in enumerate(networks):
        values = [report.per_class_accuracy.get(c) for c in order]
        spans = [
            report.per_class_interval.get(c) or (v or 0,) * 2 for c, v in zip(order, values, strict=True)
        ]
        counts = [report.per_class_count.get(c, 0) for c in order]
        traces.append(
            go.Bar(
                y=list(order), x=[v or 0 for v in values], orientation="h", name=name,
                marker={
                    "color": NETWORK_COLOURS.get(model, SECOND), "opacity": 0.55 if nth and alike else 1,
                },
                text=["no images" if v is None else text.percent(v) for v in values],
                textposition="inside", insidetextanchor="start", cliponaxis=False,
                error_x={
                    "type": "data", "symmetric": False, "thickness": 1, "width": 3, "color": "#8a8f94",
                    "array": [max(s[1] - (v or 0), 0) for s, v in zip(spans, values, strict=True)],
                    "arrayminus": [max((v or 0) - s[0], 0) for s, v in zip(spans, values, strict=True)],
                },
                customdata=[[n, *span] for n, span in zip(counts, spans, strict=True)],
                hovertemplate="%{y}: %{x:.1%} of %{customdata[0]} pictures, "
                "95% between %{customdata[1]:.1%} and %{customdata[2]:.1%}<extra></extra>",
            )
        )  # fmt: skip
    if marks:
        traces.append(
            go.Scatter(
                y=list(order), x=[marks[c] for c in order], name=text.COURSE_REPORT, mode="markers",
                marker={"symbol": "line-ns-open", "size": 14, "color": "#c2410c", "line": {"width": 2}},
                hovertemplate="%{y}, course report: %{x:.0%}<extra></extra>",
            )
        )  # fmt: skip
    return _figure(
        traces,
        key,
        hovermode="closest",
        height=max(80 + (30 if len(networks) == 1 else 44) * len(order), 160),
        showlegend=len(traces) > 1,
        bargap=0.3,
        meta={"clicks": True},
        xaxis={"range": [0, 1.02], "tickformat": ".0%", "fixedrange": True},
        yaxis={"autorange": "reversed", "automargin": True, "fixedrange": True, "ticksuffix": "  "},
    )


def confusion_figure(
    key: str, classes: Sequence[str], matrix: Sequence[Sequence[int]], shares: bool
) -> Figure:
    """Truth down, prediction across; the diagonal is left out of the colours so that mistakes stand out."""
    rows = [[n / (sum(row) or 1) for n in row] for row in matrix] if shares else matrix
    colours = [[None if i == j else value for j, value in enumerate(row)] for i, row in enumerate(rows)]
    words = [[(f"{v * 100:.1f}" if shares else str(v)) if v else "" for v in row] for row in rows]
    small = len(classes) <= 20
    return _figure(
        [
            go.Heatmap(
                x=list(classes), y=list(classes), z=colours, text=words, xgap=1, ygap=1, showscale=False,
                texttemplate="%{text}" if small else None, zmin=0, hoverongaps=True,
                customdata=[[int(n) for n in row] for row in matrix],
                colorscale=[[0, "rgba(194,65,12,0.03)"], [1, "rgba(194,65,12,0.85)"]],
                hovertemplate="%{y} taken for %{x}: %{customdata}<extra></extra>",
            )
        ],
        key,
        hovermode="closest",
        height=min(max(140 + 34 * len(classes), 260), 900),
        meta={"clicks": True},
        xaxis={"title": {"text": text.PREDICTION}, "side": "top", "showgrid": False, "fixedrange": True},
        yaxis={
            "title": {"text": text.TRUTH}, "autorange": "reversed", "automargin": True, "showgrid": False,
            "fixedrange": True,
        },
        margin={"l": 48, "r": 12, "t": 90, "b": 12},
    )  # fmt: skip


def calibration_figure(key: str, model: str, report: Report) -> Figure:
    """Accuracy against confidence, before and after the temperature; on the diagonal both agree."""
    colour = NETWORK_COLOURS.get(model, SECOND)
    traces: list[Any] = [
        go.Scatter(
            x=[0, 1], y=[0, 1], mode="lines", name=text.AS_SURE_AS_RIGHT, hoverinfo="skip",
            line={"color": "#8a8f94", "width": 1, "dash": "dot"},
        )
    ]  # fmt: skip
    for name, table, dash, error in (
        (
            text.BEFORE_TEMPERATURE,
            report.reliability_before_temperature,
            "dash",
            report.ece_before_temperature,
        ),
        (text.AFTER_TEMPERATURE.format(t=report.temperature), report.reliability, "solid", report.ece),
    ):
        rows = [row for row in table if row.count]
        traces.append(
            go.Scatter(
                x=[row.confidence for row in rows], y=[row.accuracy for row in rows], mode="lines+markers",
                name=f"{name}, {text.percent(error)}", line={"color": colour, "dash": dash, "width": 1.8},
                customdata=[row.count for row in rows],
                hovertemplate="%{y:.1%} right where it was %{x:.1%} sure (%{customdata} pictures)",
            )
        )  # fmt: skip
    return _figure(
        traces,
        key,
        hovermode="closest",
        xaxis={"title": {"text": text.CONFIDENCE}, "range": [0, 1.02], "tickformat": ".0%"},
        yaxis={"title": {"text": text.ACCURACY}, "range": [0, 1.02], "tickformat": ".0%"},
    )


def classes_figure(key: str, epochs: Sequence[int], accuracy: Mapping[str, Sequence[float | None]]) -> Figure:
    """Accuracy of each class against epochs: one trace a class, in the order given."""
    return _figure(
        [
            go.Scatter(
                x=list(epochs), y=list(values), name=name, mode="lines+markers",
                line={
                    "color": CLASS_COLOURS[i % 10], "width": 1.6,
                    "dash": CLASS_DASHES[i // 10 % 2],
                },
                marker={"size": 5}, hovertemplate="%{y:.1%}",
            )
            for i, (name, values) in enumerate(accuracy.items())
        ],
        key,
        xaxis={"title": {"text": "epoch"}, "rangemode": "tozero"},
        yaxis={"tickformat": ".0%", "range": [0, 1]},
        legend={"orientation": "v", "x": 1.02, "y": 1},
    )  # fmt: skip


def heat_figure(key: str, epochs: Sequence[int], accuracy: Mapping[str, Sequence[float | None]]) -> Figure:
    """Accuracy of each class at each epoch as a map; trace 0 takes a row of z an epoch."""
    rows = [list(row) for row in zip(*accuracy.values(), strict=True)]
    return _figure(
        [
            go.Heatmap(
                x=list(epochs), y=list(accuracy), z=rows, transpose=True, zmin=0, zmax=1, xgap=1, ygap=1,
                colorscale="Cividis", colorbar={"tickformat": ".0%", "thickness": 10, "outlinewidth": 0},
                hovertemplate="%{y}, epoch %{x}: %{z:.1%}<extra></extra>",
            )
        ],
        key,
        hovermode="closest",
        height=max(70 + 22 * len(accuracy), 180),
        xaxis={"title": {"text": "epoch"}, "showgrid": False},
        yaxis={"autorange": "reversed", "automargin": True, "ticksuffix": "  ", "showgrid": False},
    )  # fmt: skip


def speed_figure(
    key: str, model: str, steps: Sequence[int], rates: Sequence[float], speeds: Sequence[float]
) -> Figure:
    """Learning rate (trace 0, left) and images a second (trace 1, right) against steps."""
    return _figure(
        [
            go.Scatter(
                x=list(steps), y=list(rates), name="learning rate", mode="lines",
                line={"color": SECOND, "width": 1.6}, hovertemplate="%{y:.3g}",
            ),
            go.Scatter(
                x=list(steps), y=list(speeds), name="images a second", mode="lines", yaxis="y2",
                line={"color": NETWORK_COLOURS.get(model, SECOND), "width": 1.2},
                hovertemplate="%{y:,.0f}",
            ),
        ],
        key,
        margin={"l": 48, "r": 48, "t": 8, "b": 36},
        xaxis={"title": {"text": "step"}},
        yaxis={"rangemode": "tozero"},
        yaxis2={"rangemode": "tozero", "overlaying": "y", "side": "right", "showgrid": False},
    )  # fmt: skip


def overlay_figure(
    key: str, unit: str, curves: Sequence[tuple[str, str, Sequence[float], Sequence[float]]], **axis: Any
) -> Figure:
    """Curves of several runs over one another: (name, network, x, y) each; same networks differ by dash."""
    dashes, seen, traces = ("solid", "dash", "dot", "dashdot"), dict[str, int](), []
    for name, model, x, y in curves:
        nth = seen[model] = seen.get(model, -1) + 1
        traces.append(
            go.Scatter(
                x=list(x), y=list(y), name=name, mode="lines",
                line={
                    "color": NETWORK_COLOURS.get(model, SECOND), "width": 1.8, "dash": dashes[nth % 4],
                },
            )
        )  # fmt: skip
    return _figure(traces, key, xaxis={"title": {"text": unit}}, yaxis=axis, showlegend=True)
