"""Image tools: the model looks at the picture through a tool before it answers.

Paper: Tian, Hu, Wu, Li, Lu, Gong; "When Think-with-Image Meets Safety: What Determines Multimodal
Jailbreak Robustness?"; 2026; https://arxiv.org/abs/2605.27932. Its abstract claims that explicit
image-tool calls lower attack success by about 30%, relative, averaged over models; that the effect
remains with overridden and with unsafe-looking returned pictures but disappears with the trace's
text alone; and that a shift of hidden states causes it. The full text could not be read, so its
tools, prompts and models are unknown; everything below is ours unless it says otherwise.

Where it acts: before the answer, on the whole prompt. With v the picture, q the question, t(v) what
the tool returns, and y the answer,

    direct    y ~ model(v, q)
    tool      c ~ model(tools, v, q)   or written for it          c is the call
              y ~ model(tools, v, q, c, t_c(v))                   with no further call allowed

Either we write the call ("scripted": zoom into the middle of the picture) or the model does
("model": greedy, up to `calls` times, each result shown before the next; the model is told about
tool errors). Then one generation answers, with the caller's own settings and `<tool_call>` banned:
a model trained on tools would call forever. `safesight.tools.formats` has the call formats.

What is fitted: nothing. Cost: a longer prompt, and for "model" one more generation per call.

What it cannot do: a prompt without a picture is left alone (only the ban applies), so it does not
stop attacks in text. It sees the picture as the processor left it. Anyone who controls the picture
controls what the tool returns. An answer may change because the prompt is longer, or odd, rather
than safer: compare with the overriding `returns` and with `safesight run image_tools`.
The logits and caches of a returned dict are those of the longer prompt.

Where we differ: unknown, see above. Of several pictures, in whatever turns, a scripted call is
about the last; a call of the model may name any of them by `img_idx`, counted from 0, and then the
returned ones.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self, final

import torch
from PIL import Image
from pydantic import Field, model_validator
from torch import Tensor

from safesight.defenses.base import Defense, DefenseConfig, Parts
from safesight.defenses.image_tools.traces import (
    Look,
    as_inputs,
    call_tags,
    looks,
    offer_writer,
    with_offer,
    with_traces,
)
from safesight.generation.answers import put_back_prompt, sequences_of
from safesight.generation.calls import prompt_of, refuse_begun, setting, short_answer
from safesight.tools import ToolSetup, has_call
from safesight.tools.calls import CALL_END, Returned, picture_of_call
from safesight.tools.conditions import overridden
from safesight.tools.formats import CENTRE
from safesight.tools.ocr import check_ocr

if TYPE_CHECKING:
    from safesight.generation.call_types import Generate, Inputs
    from safesight.generation.prompt_rows import Writer
    from safesight.models import VLM

__all__ = ["ImageTools", "ImageToolsConfig"]


class ImageToolsConfig(DefenseConfig):
    """Settings of image tools."""

    call: Literal["scripted", "model"] = "scripted"
    """Who writes the call. Source: ours, the paper's choice is unknown."""
    tools: tuple[Literal["zoom", "rotate", "ocr"], ...] = Field(("zoom",), min_length=1)
    """The tools on offer; a scripted call uses the first. Source: ours."""
    box: tuple[int, int, int, int] = CENTRE
    """Left, top, right, bottom of a scripted zoom, in thousandths of the picture. Source: ours."""
    words: str = Field("", max_length=1000)
    """Text of a scripted turn before its call. Source: ours."""
    calls: int = Field(3, ge=1, le=10)
    """Maximum number of calls the model may write. Source: ours."""
    call_tokens: int = Field(128, ge=16, le=4096)
    """Maximum number of tokens in a turn with a call. Source: ours."""
    format: Literal["auto", "template", "nous", "plain"] = "auto"
    """How tools are offered and pictures returned; auto picks by model. Source: authors' code,
    Qwen-Agent's for nous; ours for plain."""
    returns: Literal["picture", "identity", "blank", "noise", "error"] = "picture"
    """What comes back: the tool's own result, or a control instead. Source: ours, for the
    paper's overridden pictures."""

    @model_validator(mode="after")
    def _a_picture(self) -> Self:
        if self.returns in ("identity", "blank", "noise") and set(self.tools) == {"ocr"}:
            raise ValueError(f"returns={self.returns} needs a tool that returns a picture, not ocr")
        return self

    @model_validator(mode="after")
    def _a_region(self) -> Self:
        left, top, right, bottom = self.box
        if not (0 <= left < right <= 1000 and 0 <= top < bottom <= 1000):
            raise ValueError("a box needs left < right and top < bottom, each from 0 to 1000")
        return self


@final
class ImageTools(Defense[ImageToolsConfig, None]):
    """An image-tool call before every answer.

    Example:
        >>> ImageTools(call="model", calls=1).config.calls
        1
    """

    name = "image_tools"
    headline = ("look_carefully",)
    kind = "pipeline"
    attacks = ("ignore_tools", "injected_result")
    paper = (
        "Tian et al., When Think-with-Image Meets Safety: What Determines Multimodal Jailbreak "
        "Robustness?, 2026, arXiv 2605.27932"
    )
    in_demo = True
    Config = ImageToolsConfig

    def parts(self, vlm: VLM, config: ImageToolsConfig, fitted: None) -> Parts:
        """Looks, then answers.

        Raises:
            InputError: a tool needs a package that is not installed.
        """
        if "ocr" in config.tools:
            check_ocr()
        setup = vlm.tool_setup(
            format=config.format, tools=config.tools, box=config.box, words=config.words
        )
        run = _Looking(vlm, config, setup, offer_writer(vlm, setup))
        return Parts(around=run)


class _Looking:
    """One generation with tools: every row looks first, then each gets one answer."""

    def __init__(self, vlm: VLM, config: ImageToolsConfig, setup: ToolSetup, write: Writer) -> None:
        self.vlm, self.config, self.setup, self.write = vlm, config, setup, write
        self.banned = call_tags(vlm)

    def __call__(self, generate: Generate, inputs: Inputs) -> Any:
        """Like `generate`: return the caller's prompt followed by the answer."""
        refuse_begun(inputs, "Image tools rewrite the whole prompt")
        banned = [*(setting(self.vlm, inputs, "bad_words_ids") or ()), *self.banned]
        rows = looks(self.vlm, inputs)
        seeing = [index for index, row in enumerate(rows) if row.pictures]
        if not seeing:
            return generate(**{**inputs, "bad_words_ids": banned})
        for index in seeing:
            rows[index] = with_offer(rows[index], self.write)
        look = self._scripted if self.config.call == "scripted" else self._decided
        longer = as_inputs(self.vlm, inputs, look(generate, inputs, rows, seeing))
        output = generate(**{**longer, "bad_words_ids": banned})
        return put_back_prompt(output, longer["input_ids"], inputs["input_ids"])

    def _scripted(
        self, generate: Generate, inputs: Inputs, rows: list[Look], seeing: list[int]
    ) -> list[Look]:
        """The rows after a scripted call."""
        asked = {index: rows[index].pictures for index in seeing}
        calls = {
            index: self.setup.scripted_call(pictures[-1], len(pictures) - 1)
            for index, pictures in asked.items()
        }
        return self._shown(rows, calls)

    def _decided(
        self, generate: Generate, inputs: Inputs, rows: list[Look], seeing: list[int]
    ) -> list[Look]:
        """The rows after all calls that the model chose to write."""
        prompt = prompt_of(self.vlm, inputs)
        for _ in range(self.config.calls):
            texts = self._asked(generate, prompt, [rows[index] for index in seeing])
            calls = {i: t for i, t in zip(seeing, texts, strict=True) if has_call(t)}
            if not calls:
                break
            rows, seeing = self._shown(rows, calls), list(calls)
        return rows

    def _asked(self, generate: Generate, prompt: Inputs, rows: list[Look]) -> list[str]:
        """What the model writes with tools on offer, up to the end of a call."""
        inputs = as_inputs(self.vlm, prompt, rows)
        length = inputs["input_ids"].shape[1]
        output = generate(
            **inputs,
            **short_answer(self.vlm, self.config.call_tokens),
            pad_token_id=self.vlm.tokenizer.pad_token_id,
            stopping_criteria=[partial(_call_ended, self.vlm, length)],
        )
        texts = self.vlm.decode(sequences_of(output), length)
        return [_until_call_end(text) for text in texts]

    def _shown(self, rows: list[Look], calls: dict[int, str]) -> list[Look]:
        """The rows with these calls and their results."""
        traces = {index: (text, self._run(text, rows[index])) for index, text in calls.items()}
        return with_traces(self.vlm, self.setup, rows, traces)

    def _run(self, text: str, look: Look) -> Returned:
        returns, index = self.config.returns, look.own - 1
        shown = look.pictures[picture_of_call(text, len(look.pictures), index)]
        if returns == "error":
            return overridden("error", shown)
        result = self.setup.run(text, look.pictures, index)
        if returns == "picture" or not isinstance(result, Image.Image):
            return result
        return shown if returns == "identity" else overridden(returns, shown)


def _call_ended(vlm: VLM, length: int, ids: Tensor, scores: Any, **_: Any) -> Tensor:
    """A stopping criterion: rows whose answer so far completes a call."""
    # The newest tokens suffice: a tag has at most as many tokens as characters.
    recent = ids[:, max(length, ids.shape[1] - len(CALL_END)) :]
    texts = vlm.tokenizer.batch_decode(recent)
    return torch.tensor([CALL_END in text for text in texts], device=ids.device)


def _until_call_end(text: str) -> str:
    before, tag, _ = text.partition(CALL_END)
    return before + tag
