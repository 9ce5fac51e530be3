"""A protected model in lmms-eval: `lmms-eval --model safesight --model_args pretrained=...`.

lmms-eval finds `manifest` by the entry point `lmms_eval.models`. The tasks keep their prompts,
pictures and metrics; only the answers come from here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms

from safesight.errors import InputError
from safesight.hosting.requests import Generation
from safesight.hosting.served import serve
from safesight.hosting.settings import Settings
from safesight.types import Message

__all__ = ["Safesight", "manifest"]

_HONORED = {
    "max_new_tokens",
    "do_sample",
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "until",
    "num_beams",
}
# Of one architecture's pictures, of speed, and of lmms-eval's own loop.
_NEUTRAL = {"image_aspect_ratio", "use_cache", "max_agentic_steps"}
_WINDOW = 8
"""Batches that are prepared at once: enough to sort by length, few enough pictures to hold."""


def manifest() -> Any:
    """What lmms-eval calls the model, and where its class is."""
    # Not at the top: its package reads the entry points, this one included, when it is imported.
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id="safesight", chat_class_path=f"{__name__}.Safesight")


class Safesight(lmms):
    """A vision-language model with an optional defense, for tasks that want generated answers.

    Args:
        pretrained: "testbed", a folder, or a hub id.
        defense: Registered defenses joined by "+".
        artifact: Folder of the defense's artifact, or several with ";" between them; by default
            the bundled one.
        batch_size: Maximum batch size; "auto" is 32.
        max_new_tokens: The length of an answer where the task sets none.
        system_prompt: A system message for every question, or a file that holds one.
        **settings: `dtype`, `device`, `device_map`, `quantization_config`, `attn_implementation`,
            `revision` and `trust_remote_code` as for `VLM.load`; everything else goes to the
            defense.

    Raises:
        SafesightError: the model, the defense or the artifact cannot be used.
    """

    is_simple = False

    def __init__(
        self,
        pretrained: str = "testbed",
        defense: str = "none",
        artifact: str = "",
        batch_size: int | str = "auto",
        max_new_tokens: int | None = None,
        system_prompt: str | None = None,
        **settings: Any,
    ) -> None:
        super().__init__()
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise InputError(
                "safesight runs in one process. Start lmms-eval without accelerate launch; "
                "device_map=auto spreads a model over several devices."
            )
        settings.pop("max_batch_size", None)  # lmms-eval passes it to every model
        self._served = serve(
            pretrained,
            defense=defense,
            artifact=[folder for folder in str(artifact).split(";") if folder],
            batch_size=None if batch_size == "auto" else int(batch_size),
            **settings,
        )
        self._max_new_tokens = max_new_tokens or self._served.host.default_max_tokens
        self.system_prompt = self._resolve_system_prompt(system_prompt or "")

    @property
    def batch_size(self) -> int:
        """The maximum batch size."""
        return self._served.host.batcher.max_batch

    def generate_until(self, requests: list[Instance]) -> list[GenerationResult]:
        """Answer the requests, in batches of similar length.

        Raises:
            InputError: a document or a setting of a task that this model cannot take.
        """
        answers: dict[int, GenerationResult] = {}
        order = sorted(range(len(requests)), key=lambda index: -len(requests[index].args[0]))
        size = _WINDOW * self.batch_size
        for start in range(0, len(order), size):
            window = [(index, requests[index]) for index in order[start : start + size]]
            futures = [(index, request, self._ask(request)) for index, request in window]
            for index, request, future in futures:
                answers[index] = self._answer(request, future)
        return [answers[index] for index in range(len(requests))]

    def _ask(self, request: Instance) -> Future[Generation]:
        _, doc_to_messages, kwargs, document, task, split = request.args
        messages = doc_to_messages(self.task_dict[task][split][document])
        if self.system_prompt:
            messages = self._apply_system_prompt(messages, self.system_prompt)
        try:
            return self._served.ask(list(_turns(messages)), self._settings(kwargs))
        except InputError as error:
            raise _in_task(request, error) from error

    def _answer(self, request: Instance, future: Future[Generation]) -> GenerationResult:
        try:
            found = future.result()
        except InputError as error:
            raise _in_task(request, error) from error
        counts = TokenCounts(input_tokens=found.input_tokens, output_tokens=found.output_tokens)
        return GenerationResult(text=found.text, token_counts=counts)

    def _settings(self, kwargs: Mapping[str, Any]) -> Settings:
        """A task's `generation_kwargs`; a temperature above 0 samples, as in lmms-eval's models."""
        unknown = sorted(kwargs.keys() - _HONORED - _NEUTRAL)
        if unknown or (kwargs.get("num_beams") or 1) != 1:
            what = unknown[0] if unknown else "num_beams"
            raise InputError(
                f"safesight models do not support the generation setting {what}="
                f"{kwargs[what]!r}. Take it out of the task's generation_kwargs, or set "
                "num_beams to 1."
            )
        temperature = kwargs.get("temperature")
        if kwargs.get("do_sample") is False:
            temperature = 0.0
        elif temperature is None:
            temperature = 1.0 if kwargs.get("do_sample") else 0.0
        sampled: dict[str, Any] = {"top_p": kwargs.get("top_p"), "top_k": kwargs.get("top_k")}
        return Settings(
            max_new_tokens=kwargs.get("max_new_tokens") or self._max_new_tokens,
            temperature=temperature,
            **(sampled if temperature else {}),
            seed=kwargs.get("seed") if temperature else None,
            stop=_stops(kwargs.get("until")),
        )

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Refused: a defense acts on answers that the model writes, not on given ones."""
        raise _only_generates(requests)

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        """Refused: the task decides in each round what comes next."""
        raise _only_generates(requests)


def _turns(messages: Sequence[Mapping[str, Any]]) -> Iterator[Message]:
    """lmms-eval's messages in the form of chat templates."""
    for message in messages:
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        yield {"role": message["role"], "content": [_part(part) for part in parts]}


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    if part["type"] == "text":
        return {"type": "text", "text": part["text"]}
    if part["type"] == "image":
        return {"type": "image", "image": part["url"]}
    raise InputError(
        f"safesight models take text and pictures, not {part['type']}. Choose another task."
    )


def _stops(until: str | Sequence[str] | None) -> tuple[str, ...]:
    """The texts that end an answer.

    An empty line is the default of tasks for models that only complete text; it would cut off
    answers that have paragraphs, so lmms-eval's own chat models leave it out, too.
    """
    given = [until] if isinstance(until, str) else until or []
    return tuple(text for text in given if text != "\n\n")


def _in_task(request: Instance, error: InputError) -> InputError:
    return InputError(f"Document {request.doc_id} of the task {request.task_name!r}: {error}")


def _only_generates(requests: Sequence[Instance]) -> InputError:
    task = requests[0].task_name if requests else ""
    return InputError(
        f"The task {task!r} asks for more than one generated answer to each question. "
        "safesight models only run tasks whose output_type is generate_until."
    )
