"""The shop window: the only rooms that import gradio and plotly."""
