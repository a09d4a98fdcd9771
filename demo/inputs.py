"""Gradio's page and inputs, without what they would do on their own: decode, sort out, complain, or fetch."""

import math
from typing import Any

import gradio as gr
from gradio.components.file import FileData, ListFiles
from gradio.data_classes import ImageData
from gradio_client.utils import is_file_obj_with_meta, is_http_url_like, traverse

from demo import text


class Page(gr.Blocks):
    """A `gr.Blocks` that takes uploads only: an address named in the place of a file, whatever the input, is
    not fetched."""

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *rest: Any, **more: Any) -> list[Any]:
        def refuse_address(file: dict[str, Any]) -> dict[str, Any]:
            if is_http_url_like(str(file.get("path"))):
                raise gr.Error(text.NO_ADDRESSES, print_exception=False)
            return file

        traverse(inputs, refuse_address, is_file_obj_with_meta)
        return await super().preprocess_data(block_fn, inputs, *rest, **more)


class PictureInput(gr.Image):
    """A `gr.Image` that hands on the path of the file: our own normaliser is the first to decode it."""

    def preprocess(self, payload: ImageData | None) -> str | None:
        return payload.path if payload is not None else None

    def get_block_name(self) -> str:
        return "image"


class FilesInput(gr.File):
    """A `gr.File` that hands on the paths of all files: what is not a picture becomes a row that says so."""

    def preprocess(self, payload: ListFiles | FileData | None) -> list[str]:
        return _paths(payload)

    def get_block_name(self) -> str:
        return "file"


class FolderButton(gr.UploadButton):
    """A `gr.UploadButton` for a folder (`file_count="directory"`) that hands on the paths of all files in it.

    It has no constructor of its own: Gradio reads from its arguments what the page is told.
    """

    def preprocess(self, payload: ListFiles | FileData | None) -> list[str]:
        return _paths(payload)

    def get_block_name(self) -> str:
        return "uploadbutton"


class ArchiveInput(gr.File):
    """A `gr.File` that hands on the path of one file."""

    def preprocess(self, payload: ListFiles | FileData | None) -> str | None:
        return next(iter(_paths(payload)), None)

    def get_block_name(self) -> str:
        return "file"


class Dial(gr.Slider):
    """A `gr.Slider` that hands on a number in its range, whatever a person is typing; nothing is where it
    stands at first."""

    def preprocess(self, payload: object) -> float:
        try:
            number = float(payload)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if math.isnan(number):
            number = self.value
        return super().preprocess(min(max(number, self.minimum), self.maximum))

    def get_block_name(self) -> str:
        return "slider"


class Count(gr.Number):
    """A `gr.Number` (`precision=0`) that hands on what came: our own code says what is wrong with it."""

    def preprocess(self, payload: object) -> object:
        return payload

    def get_block_name(self) -> str:
        return "number"


class Choice(gr.Dropdown):
    """A `gr.Dropdown` that hands on any text: what there is, our own code knows, and says it in a sentence.

    Gradio compares with the list it sent last, which is forgotten with the session of a page left open.
    """

    def preprocess(self, payload: object) -> str | None:
        return payload if isinstance(payload, str) else None

    def get_block_name(self) -> str:
        return "dropdown"


def _paths(payload: ListFiles | FileData | None) -> list[str]:
    files = payload.root if isinstance(payload, ListFiles) else [payload] if payload else []
    return [file.path for file in files]
