"""The page as Gradio builds it: a question on one side, answers on the other.

Gradio is imported inside `build_page`, since it takes seconds and may not be installed.
"""

# No postponed annotations here: Gradio looks at those of its callbacks, and does not find names
# that are local to a function.
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from PIL import Image

from safesight.app.asking import MAX_DEFENSES, MAX_PICTURES, Asker
from safesight.app.drawing import (
    about_html,
    answers_html,
    error_html,
    examples_html,
    head_html,
    page_file,
    start_html,
)
from safesight.app.examples import Example
from safesight.app.figures import shown_name
from safesight.errors import InputError, SafesightError
from safesight.grammar import UNDEFENDED
from safesight.models import open_picture

if TYPE_CHECKING:
    from gradio import Blocks, Theme

__all__ = ["AT_ONCE", "KEPT", "STYLE", "build_page", "theme"]

AT_ONCE = 8
"""Questions that are answered at the same time; others wait in line."""
_IN_LINE = 64
KEPT = 600
"""Seconds after which an uploaded picture is deleted."""
STYLE = "app.css"
"""The style sheet, in `page/`."""


def build_page(asker: Asker, chosen: Sequence[str], examples: Sequence[Example]) -> "Blocks":
    """The page. Nothing is sent anywhere, and only the page itself can call its functions.

    Args:
        asker: Answers the questions.
        chosen: The defenses that are chosen at first.
        examples: What can be asked with one click.
    """
    import gradio as gr

    def take(event: gr.EventData) -> tuple[list[Any], str]:
        example = examples[int(event.example)]
        return list(example.pictures), example.question

    vlm = asker.host.vlm
    where = f"{vlm.device}, {str(vlm.dtype).removeprefix('torch.')}"
    page: Blocks = gr.Blocks(
        title="safesight", analytics_enabled=False, delete_cache=(60, KEPT), fill_width=True
    )
    with page:
        gr.HTML(head_html(vlm.name, where))
        shown = gr.HTML(examples_html(examples), js_on_load=page_file("examples.js"))
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                pictures, question, names = _inputs(asker, chosen)
                button = gr.Button("Ask", variant="primary")
                gr.HTML(about_html(list(asker.arms)))
            with gr.Column(scale=5, min_width=300):
                answers = gr.HTML(
                    start_html(),
                    js_on_load=page_file("answers.js"),
                    elem_id="ss-answers",
                )
        # Before what is asked of the server: listeners of an event run one after the other.
        _mark(True, pictures.upload, pictures.delete, question.input, names.input)
        _mark(False, button.click, question.submit, shown.click)
        ask: dict[str, Any] = {
            "fn": partial(_answered, asker),
            "inputs": [pictures, question, names],
            "outputs": answers,
            "concurrency_limit": AT_ONCE,
            "concurrency_id": "ask",
            "api_visibility": "private",
        }
        button.click(**ask)
        question.submit(**ask)
        taken = shown.click(take, None, [pictures, question], api_visibility="private")
        taken.then(**ask)
        pictures.upload(
            partial(_own_pictures, examples),
            pictures,
            pictures,
            show_progress="hidden",
            api_visibility="private",
        )
    page.queue(max_size=_IN_LINE)
    return page


def _answered(
    asker: Asker,
    pictures: list[tuple[str, str | None]] | None,
    question: str,
    names: list[str],
) -> Iterator[str]:
    """The answers as soon as they are there, and then with the figures."""
    try:
        checked = asker.question([path for path, _ in pictures or ()], question, names)
        replies = asker.answers(checked)
        faults = {reply.fault for reply in replies}
        if len(faults) == 1 and (fault := faults.pop()) is not None:
            yield error_html(fault)  # once, and not in every card
            return
        yield answers_html(replies)
        yield answers_html(replies, asker.look(checked))
    except SafesightError as error:
        yield error_html(str(error))


def _mark(stale: bool, *events: Any) -> None:
    """At these events, mark the answers as those to an earlier question, or no longer do so."""
    for event in events:
        event(
            None,
            js='() => document.getElementById("ss-answers").classList.toggle("ss-stale", '
            f"{str(stale).lower()})",
            api_visibility="private",
        )


def _own_pictures(
    examples: Sequence[Example], pictures: list[tuple[str, str | None]] | None
) -> list[tuple[str, str | None]]:
    """The pictures without those of an example, to which a visitor has added some."""
    shown = [each for example in examples for each in example.pictures]

    def is_own(path: str) -> bool:
        try:
            picture = open_picture(path)
        except InputError:
            return True  # which is said when it is asked about
        return not any(_same(picture, each) for each in shown)

    kept = pictures or []
    return [each for each in kept if is_own(each[0])] or kept


def _same(one: Image.Image, other: Image.Image) -> bool:
    return one.size == other.size and one.tobytes() == other.convert("RGB").tobytes()


def _inputs(asker: Asker, chosen: Sequence[str]) -> tuple[Any, Any, Any]:
    """Where the pictures, the question and the defenses go."""
    import gradio as gr

    pictures = gr.Gallery(
        label=f"Pictures (up to {MAX_PICTURES})",
        file_types=["image"],
        format="png",  # the model sees an example pixel by pixel
        interactive=True,
        columns=3,
        height=230,
        object_fit="contain",
        buttons=[],
        elem_id="ss-pictures",
    )
    question = gr.Textbox(
        label="Question",
        lines=2,
        max_lines=6,
        placeholder="What do you want to know?",
    )
    names = gr.Dropdown(
        [(shown_name(name), name) for name in asker.arms if name != UNDEFENDED],
        value=list(chosen),
        multiselect=True,
        max_choices=MAX_DEFENSES,
        label=f"Defenses (up to {MAX_DEFENSES})",
    )
    return pictures, question, names


def theme() -> "Theme":
    """Gradio's own colors with the fonts of the reader's system: none is fetched."""
    import gradio as gr

    return gr.themes.Default(
        primary_hue="blue",
        neutral_hue="zinc",
        font=[gr.themes.Font("system-ui"), gr.themes.Font("sans-serif")],
        font_mono=[gr.themes.Font("ui-monospace"), gr.themes.Font("monospace")],
    )
