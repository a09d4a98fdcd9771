"""The one component that draws every chart: plotly figures in slots that stay while data comes in."""

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import plotly

from demo import text

PLOTLY_JS = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
_SCRIPT = (Path(__file__).parent / "plot_view.js").read_text("utf-8")

_TOOLS = f"""<div class="lab-tools">
<label>{text.SMOOTHING}
<input type="range" data-tool="smooth" min="0" max="0.99" step="0.01" value="0.95"></label>
<label><input type="checkbox" data-tool="log"> {text.LOG_AXIS}</label>
<label><input type="checkbox" data-tool="follow" checked> {text.FOLLOW}</label></div>"""

# Only named here; the first PlotView runs it when the page can be used.
HEAD = f'<meta name="plotly" content="/gradio_api/file={PLOTLY_JS.as_posix()}">'


class PlotView(gr.HTML):
    """A `gr.HTML` whose slots hold charts or markup and are never mounted anew.

    Its value is `{"figures": {slot: figure}, "html": {slot: markup}, "source": name or None}`. While
    it has a source, the page calls `read({"source": name, "cursor": n})` by itself, as often as the
    answers' `wait` says and only where it can be seen, and adds what is new; so a zoom or a hidden
    curve stays. Markup in `html` must come escaped.

    Args:
        slots: names, in the order shown; those that start with `html-` hold markup, others charts.
        titles: headings of slots.
        tools: chart slots that get switches for smoothing, a log axis and following the newest.
        read: answers the page; called over plain HTTP by anyone, so it has to check what it gets.
        export: answers `export({"source", "what"})` with `{"name", "text"}`, for buttons in the markup
            that have `data-export`; likewise.

    A button in the markup that has `data-action` arrives as a click event with the data
    `{"action", "source"}`; one with `data-sure` has to be pressed twice.
    """

    def __init__(
        self,
        slots: list[str],
        *,
        titles: dict[str, str] | None = None,
        tools: Sequence[str] = (),
        read: Callable[[Any], dict[str, Any]] | None = None,
        export: Callable[[Any], dict[str, Any]] | None = None,
        value: Any = None,
        **options: Any,
    ) -> None:
        titles = titles or {}
        parts = []
        for slot in slots:
            heading = f"<h3>{escape(titles[slot])}</h3>" if slot in titles else ""
            heading += _TOOLS if slot in tools else ""
            kind = "lab-markup" if slot.startswith("html-") else "lab-chart"
            parts.append(f'<section>{heading}<div class="{kind}" data-slot="{escape(slot)}"></div></section>')
        super().__init__(
            value=value or {},
            html_template=f'<div class="lab-slots">{"".join(parts)}</div>',
            js_on_load=_SCRIPT,
            server_functions=[function for function in (read, export) if function] or None,
            apply_default_css=False,
            **options,
        )

    def get_block_name(self) -> str:
        return "html"

    def api_info(self) -> dict[str, Any]:
        return {"type": "object"}
