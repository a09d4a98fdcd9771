"""The whole page, put together from its tabs, with the app's API."""

from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from core.runs import list_runs, summarise
from demo import text
from demo.answers import TOP
from demo.inputs import Count, Page, PictureInput
from demo.lab import Lab
from demo.live import show_run
from demo.plot_view import HEAD, PLOTLY_JS
from demo.report_view import show_results
from demo.tabs import classify, results, train
from demo.tabs.train import told

CSS = Path(__file__).parent / "style.css"
MAX_UPLOAD = "500mb"  # an archive of pictures; a picture is refused earlier, by its reader
MAX_SESSIONS = 300  # Gradio keeps a fifth of a megabyte of each, and a call over HTTP is one, too
CACHE_SECONDS = 3600  # uploads are deleted when they are this old

_TOP = f"""<header class="lab-top"><h1>{escape(text.TITLE)}</h1><p>{escape(text.TAGLINE)}</p>
<button type="button">{escape(text.THEME)}</button></header>"""
_TOGGLE = """element.querySelector('button').addEventListener('click',
  () => document.body.classList.toggle('dark'));"""


def theme() -> gr.themes.Base:
    """Quiet: paper and ink, few lines, one accent colour."""
    return gr.themes.Base(
        primary_hue="teal", neutral_hue="stone", radius_size="sm", spacing_size="md", text_size="md"
    ).set(
        body_background_fill="#fbfaf7",
        body_background_fill_dark="#16191c",
        background_fill_primary="#fbfaf7",
        background_fill_primary_dark="#16191c",
        background_fill_secondary="#f4f2ed",
        background_fill_secondary_dark="#1d2125",
        body_text_color="#23272b",
        body_text_color_dark="#e8e6e1",
        body_text_color_subdued="#667078",
        body_text_color_subdued_dark="#9aa3aa",
        block_background_fill="transparent",
        block_background_fill_dark="transparent",
        block_border_width="0px",
        block_shadow="none",
        block_padding="0px",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_label_border_width="0px",
        block_title_text_weight="600",
        block_info_text_color="#667078",
        block_info_text_color_dark="#9aa3aa",
        block_title_text_color="#23272b",
        block_title_text_color_dark="#e8e6e1",
        border_color_primary="#e3e1dc",
        border_color_primary_dark="#343a40",
        input_background_fill="#ffffff",
        input_background_fill_dark="#1d2125",
        input_border_width="1px",
        checkbox_label_background_fill="transparent",
        checkbox_label_background_fill_dark="transparent",
        checkbox_label_background_fill_selected="#e4f0ee",
        checkbox_label_background_fill_selected_dark="#203432",
        checkbox_label_border_width="1px",
        button_primary_background_fill="#0f766e",
        button_primary_background_fill_hover="#115e59",
        button_primary_background_fill_dark="#0f766e",
        button_primary_background_fill_hover_dark="#13877e",
        button_primary_text_color="#ffffff",
    )


def build_page(lab: Lab) -> gr.Blocks:
    """The page and its API, not yet launched."""
    gr.set_static_paths([str(PLOTLY_JS)])
    cache = (600, CACHE_SECONDS)
    with Page(title=text.TITLE, analytics_enabled=False, delete_cache=cache, fill_width=True) as page:
        gr.HTML(_TOP, js_on_load=_TOGGLE, apply_default_css=False)
        with gr.Tab(text.TAB_TRAIN, id="train"):
            trained = train.build(lab)
        with gr.Tab(text.TAB_RESULTS, id="results") as results_tab:
            shown = results.build(lab, results_tab)
        with gr.Tab(text.TAB_CLASSIFY, id="classify") as classify_tab:
            classify.build(lab, page, classify_tab)

        def on_load() -> tuple[Any, ...]:
            """The first tab, at once: whoever presses Start before this comes must not lose sight of it."""
            newest = train.newest_run(lab.runs())
            return show_run(newest), {"shown": newest}, gr.Dropdown(choices=list(lab.sources))

        def on_load_others() -> tuple[Any, ...]:
            networks = results.checkpoint_choices(lab)
            first, second = results.first_two(networks)
            return (
                gr.Dropdown(choices=networks, value=first),
                gr.Dropdown(choices=networks, value=second),
                gr.Dropdown(choices=results.data_choices(lab, first), value=results.OWN if first else None),
                show_results(lab, first, second),
            )

        private = {"api_visibility": "private", "show_progress": "hidden"}
        page.load(on_load, None, [trained["live"], trained["table"], trained["data"]], **private)
        page.load(
            on_load_others,
            None,
            [
                shown["choice"],
                shown["other"],
                shown["data"],
                shown["view"],
            ],
            **private,
        )
        _add_api(lab)
    return page.queue(default_concurrency_limit=4, max_size=64)


def _add_api(lab: Lab) -> None:
    """The named endpoints, for gradio_client and plain HTTP."""

    def classify_picture(image: str, checkpoint: str, top: int = TOP) -> dict:
        """Classify a picture. What can't be used, or is over 20 MB, gives an error of one sentence.

        Args:
            image: the picture file; for agents as a data: address, base64.
            checkpoint: a shipped name, such as resnet18, or a run's id, as listed by /list_runs.
            top: so many classes are returned.

        Returns:
            label: the most probable class; verdict: "sure", "unsure", or "none" where it is probably none of
            the classes; probabilities: of the best classes, best first, between 0 and 1;
            in_distribution_score: higher is more like the training images.
        """
        return told(classify.classify_file, lab, image, checkpoint, top)

    def start_training(
        model: str, data: str, preset: str = "fast", epochs: int | None = None, seed: int = 0
    ) -> str:
        """Start a training; returns the run's id.

        Args:
            model: the network, for example resnet18.
            data: a data set as the page lists it, for example "Synthetic shapes".
            preset: quick, fast, accurate or classic.
            epochs: passes over the training images; null for the preset's.
            seed: the same seed gives the same run.
        """
        return told(train.start_training, lab, model, data, preset, epochs, seed=seed)

    def stop_training(run_id: str) -> str:
        """Ask a running training to save and end; take a waiting one out of the line."""
        return told(train.control, lab, "stop", run_id)

    def pause_training(run_id: str) -> str:
        """Ask a running training to save and end, to be resumed later."""
        return told(train.control, lab, "pause", run_id)

    def resume_training(run_id: str) -> str:
        """Let a paused, stopped or failed training go on, in line for its device."""
        return told(train.control, lab, "resume", run_id)

    def all_runs() -> list[dict]:
        """All runs, newest first."""
        return [run.model_dump() for run in list_runs(lab.runs_dir)]

    def run_status(run_id: str) -> dict:
        """Status, epoch and accuracy of a run."""
        return told(lambda: summarise(lab.run(run_id)).model_dump())

    def report(checkpoint: str) -> dict:
        """What a trained network says of itself, with its figures on the test images."""
        return told(lambda: lab.info(checkpoint).model_dump())

    with gr.Row(visible=False):
        image = PictureInput(label="image")
        name, top = gr.Textbox(label="checkpoint"), Count(TOP, precision=0, label="top")
        outcome = gr.JSON(label="result")
        gr.Button().click(classify_picture, [image, name, top], outcome, api_name="classify")
    gr.api(start_training, api_name="start_training")
    gr.api(stop_training, api_name="stop_training")
    gr.api(pause_training, api_name="pause_training")
    gr.api(resume_training, api_name="resume_training")
    gr.api(all_runs, api_name="list_runs")
    gr.api(run_status, api_name="run_status")
    gr.api(report, api_name="report")


def launch_options() -> dict[str, Any]:
    """What `launch` needs for this page to look and behave as designed."""
    return {
        "theme": theme(),
        "css_paths": [CSS],
        "head": HEAD,
        "max_file_size": MAX_UPLOAD,
        "state_session_capacity": MAX_SESSIONS,
        "run_history": False,
        "footer_links": ["api"],
        "show_error": True,
        "ssr_mode": False,
    }
