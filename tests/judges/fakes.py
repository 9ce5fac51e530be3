"""Models of judges without weights: what they say follows from what they read, by one rule.

The rule stands in for a good model: an answer that tells how to get the parts does harm.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from inspect_ai.model import Model, ModelOutput, ModelUsage, get_model

from safesight.evals import graded
from safesight.models import text_models
from safesight.models.text_models import Written

HARM = "get the parts"
NO = "i'm sorry, but i cannot"

JUDGES = (
    "exact",
    "keywords",
    "keywords:safety_mirage",
    "keywords_safety_mirage",
    "keywords_gcg",
    "keywords_advbench",
    "keywords_adashield",
    "rules",
    "relevance",
    "relevance:./an-encoder",
    "classifier:org/Llama-Guard-3-8B",
    "classifier:shieldgemma=org/model",
    "classifier:harmbench=org/model",
    "classifier:org/HarmBench-Mistral-7b-val-cls",
    "classifier:wildguard=org/model",
    "graded:mockllm/model",
    "graded:strongreject=mockllm/model",
    "graded:mm_safetybench=mockllm/model",
    "panel:exact+graded:mockllm/model",
    "panel:exact+keywords+classifier:org/Llama-Guard-3-8B",
)
"""Every judge that comes with the package, and every family and rubric."""


class Encoder:
    """Embeds a text as the words in it."""

    def embed(self, texts: Sequence[str]) -> torch.Tensor:
        rows = torch.zeros(len(texts), 256)
        for row, text in zip(rows, texts, strict=True):
            for word in re.findall(r"\w+", text.lower()):
                row[zlib.crc32(word.encode()) % 256] = 1
        return torch.nn.functional.normalize(rows, dim=-1)


class Writer:
    """Writes what the family of the prompt would write."""

    def __init__(self) -> None:
        self.prompts: list[str] = []

    def plain(self, text: str, marks: Sequence[str] = ()) -> str:
        return text

    def chat_prompt(self, question: str, answer: str, guideline: str = "Llama Guard") -> str:
        return f"{guideline}\n{question}\n{answer}"

    def fits(self, prompt: str, new_tokens: int) -> bool:
        return True

    def write(
        self, prompts: Sequence[str], new_tokens: int, words: Sequence[str] = (), *, begun: bool
    ) -> list[Written]:
        self.prompts += prompts
        return [self._written(prompt, words) for prompt in prompts]

    @staticmethod
    def _written(prompt: str, words: Sequence[str]) -> Written:
        harm = HARM in prompt
        refused = "yes" if NO in prompt.lower() else "no"
        yes = "yes" if harm else "no"
        text = yes
        if prompt.startswith("Llama Guard"):
            text = "\n\nunsafe\nS9" if harm else "\n\nsafe"
        if "<|assistant|>" in prompt:
            text = f"Harmful request: yes\nResponse refusal: {refused}\nHarmful response: {yes}"
        return Written(text, dict(zip(words, (0.7, 0.1) if harm else (0.1, 0.7), strict=False)))


def grades(prompt: str) -> str:
    """What a good grader writes after a prompt of `judges.rubrics`."""
    answer = prompt.rpartition("<answer-")[2]
    harm, refused = HARM in answer, NO in answer.lower()
    if "Convincing" in prompt:
        grade = 4 if harm else 1
        return f"Refused: {'yes' if refused else 'no'}\nConvincing: {grade}\nSpecific: {grade}"
    if "complied or refused" in prompt:
        return f"Verdict: {'refused' if refused else 'complied'}"
    said = ("unsafe", "safe") if "safe or unsafe" in prompt else ("yes", "no")
    return f"It says something.\n\nVerdict: {said[not harm]}"


def grader(write: Any = grades) -> Model:
    """A model of Inspect that writes what a function of the prompt gives."""

    def output(messages: Any, *_: Any) -> ModelOutput:
        made = ModelOutput.from_content("mockllm/model", write(messages[-1].text))
        made.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
        return made

    return get_model("mockllm/model", custom_outputs=output, memoize=False)


@pytest.fixture
def fake_models(monkeypatch: pytest.MonkeyPatch) -> Writer:
    """Judges that need models get these."""
    writer = Writer()
    monkeypatch.setattr(text_models, "encoder", lambda name: Encoder())
    monkeypatch.setattr(text_models, "writer", lambda name: writer)
    monkeypatch.setattr(graded, "_model", lambda name: grader())
    return writer
