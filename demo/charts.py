"""Plain data to plotly figures: pure functions, no colours of text or background (the page's theme)."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

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
    key: str, model: str, accuracy: Mapping[str, float | None], counts: Mapping[str, int]
) -> Figure:
    """A bar for each class, in the order given, with its number; none for a class without images."""
    names = list(accuracy)
    values = [accuracy[name] for name in names]
    return _figure(
        [
            go.Bar(
                y=names, x=[v or 0 for v in values], orientation="h",
                marker={"color": NETWORK_COLOURS.get(model, SECOND)},
                text=["no images" if v is None else text.percent(v) for v in values],
                textposition="auto",
                insidetextanchor="end", cliponaxis=False,
                customdata=[counts.get(name, 0) for name in names],
                hovertemplate="%{y}: %{x:.1%} of %{customdata} pictures<extra></extra>",
            )
        ],
        key,
        hovermode="closest",
        height=max(60 + 30 * len(names), 160),
        showlegend=False,
        bargap=0.35,
        xaxis={"range": [0, 1], "tickformat": ".0%", "fixedrange": True},
        yaxis={"autorange": "reversed", "automargin": True, "fixedrange": True, "ticksuffix": "  "},
    )  # fmt: skip


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
