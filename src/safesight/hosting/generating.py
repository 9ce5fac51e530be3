"""One batch of requests through the model's own `generate`, with whatever is attached to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from safesight.defenses import protection
from safesight.errors import InputError
from safesight.generation.calls import as_ids
from safesight.hosting.logprobs import LogProbs
from safesight.hosting.requests import Generation, Request, decisions_of
from safesight.hosting.sampling import SeededSampling
from safesight.hosting.streams import BatchStreams, StreamRow, cut_at
from safesight.models.token_bytes import token_bytes
from safesight.types import begins_answer

if TYPE_CHECKING:
    from torch import Tensor

    from safesight.generation.prefill import Decision
    from safesight.models import VLM

__all__ = ["generated"]


def generated(vlm: VLM, batch: Sequence[Request]) -> list[Generation]:
    """The answers to requests that may share a batch, in order.

    Rows with a caller are settled as soon as they end.

    Raises:
        InputError: as for `VLM.encode` and `VLM.generate`, or probabilities of a pipeline.
    """
    import torch

    rows = _Rows(vlm, batch)
    with torch.inference_mode():
        inputs = vlm.encode(
            [list(each.messages) for each in batch],
            continue_answer=begins_answer(batch[0].messages),
            tools=batch[0].tools,
        )
        rows.lengths = inputs["attention_mask"].sum(dim=1).tolist()
        sequences = vlm.generate(inputs, **rows.arguments())
    handle = protection(vlm.model)
    outcome = handle.last if handle is not None else None
    prompt = int(inputs["input_ids"].shape[1])
    return rows.results(sequences, prompt, {} if outcome is None else outcome.decisions)


class _Rows:
    """The requests of a batch, and what becomes of them."""

    def __init__(self, vlm: VLM, batch: Sequence[Request]) -> None:
        self.vlm, self.batch = vlm, batch
        self.lengths: list[int] = []
        self.ends = _end_tokens(vlm)
        self.followed = batch[0].caller is not None
        best = batch[0].settings.logprobs
        self.logprobs = None if best is None else LogProbs(best)
        if best is not None and any(d.kind == "pipeline" for d, _ in batch[0].arm.defenses):
            raise InputError(
                f"{batch[0].arm.name} asks the model several times, so its answers have no "
                "probabilities. Leave logprobs out."
            )

    def arguments(self) -> dict[str, Any]:
        """Arguments of `generate` for this batch."""
        settings = self.batch[0].settings
        longest = max(each.settings.max_new_tokens for each in self.batch)
        kwargs: dict[str, Any] = {"max_new_tokens": longest, "do_sample": False}
        processors: list[Any] = [] if self.logprobs is None else [self.logprobs]
        if settings.temperature and settings.seed is not None:
            processors.append(self._seeded())
        elif settings.temperature:
            kwargs |= {
                "do_sample": True,
                "temperature": settings.temperature,
                "top_p": settings.top_p,
                "top_k": settings.top_k or 0,
            }
        if processors:
            kwargs["logits_processor"] = processors
        if self.followed:
            streams = self._streams()
            kwargs |= {"streamer": streams, "stopping_criteria": [streams]}
        elif settings.stop:
            kwargs |= {"stop_strings": list(settings.stop), "tokenizer": self.vlm.tokenizer}
        return kwargs

    def results(
        self, sequences: Tensor, prompt: int, decisions: Mapping[str, Decision]
    ) -> list[Generation]:
        """The answers behind the prompts in B x T tokens."""
        written = [self._written(*row) for row in enumerate(sequences[:, prompt:].tolist())]
        if self.followed:
            texts = [self._text(tokens) for tokens in written]
        else:
            texts = self.vlm.decode(sequences, prompt)
        pairs = zip(written, texts, strict=True)
        return [self._result(row, *pair, decisions) for row, pair in enumerate(pairs)]

    def _written(self, row: int, tokens: list[int]) -> list[int]:
        """The tokens of a row without the padding behind them."""
        if self.followed:
            tokens = tokens[: self.batch[row].settings.max_new_tokens]
        return self._unpadded(tokens)

    def _unpadded(self, tokens: Sequence[int]) -> list[int]:
        kept = list(tokens)
        while kept and kept[-1] == self.vlm.tokenizer.pad_token_id not in self.ends:
            kept.pop()
        return kept

    def _seeded(self) -> SeededSampling:
        first = self.batch[0].settings
        return SeededSampling(
            [each.settings.seed or 0 for each in self.batch],
            first.temperature,
            first.top_p,
            first.top_k,
            pad=self.vlm.tokenizer.pad_token_id,
        )

    def _streams(self) -> BatchStreams:
        rows = [
            StreamRow(each.caller, each.settings.max_new_tokens, each.settings.stop)
            for each in self.batch
            if each.caller is not None
        ]
        return BatchStreams(rows, decode=self._text, ends=self.ends, settle=self._settle)

    def _settle(self, row: int, tokens: list[int], decisions: Mapping[str, Decision]) -> None:
        asked, tokens = self.batch[row], self._unpadded(tokens)
        result = self._result(row, tokens, self._text(tokens), decisions)
        assert asked.caller is not None
        if not result.refused:
            asked.caller.tell(result.text)
        if not asked.future.done():
            asked.future.set_result(result)

    def _text(self, tokens: Sequence[int]) -> str:
        text: str = self.vlm.tokenizer.decode(tokens, skip_special_tokens=True)
        return text.strip()

    def _read(self, token: int) -> tuple[str, bytes]:
        text: str = self.vlm.tokenizer.decode(token)
        return text, token_bytes(self.vlm.tokenizer, token)

    def _result(
        self, row: int, tokens: Sequence[int], text: str, decisions: Mapping[str, Decision]
    ) -> Generation:
        end = next((at for at, token in enumerate(tokens) if token in self.ends), None)
        used = tokens if end is None else tokens[: end + 1]
        text, cut = cut_at(text, self.batch[row].settings.stop)
        own = decisions_of(decisions, row)
        refused = any(each["refuse"] for each in own.values()) if decisions else None
        logprobs = None
        if self.logprobs is not None and not refused:
            logprobs = self.logprobs.of(row, used, self._read)
        return Generation(
            text=text,
            stop_reason="stop" if end is not None or cut or refused else "max_tokens",
            input_tokens=int(self.lengths[row]),
            output_tokens=len(used),
            refused=refused,
            decisions=own,
            logprobs=logprobs,
        )


def _end_tokens(vlm: VLM) -> list[int]:
    end = vlm.model.generation_config.eos_token_id
    return as_ids(vlm.tokenizer.eos_token_id if end is None else end)
