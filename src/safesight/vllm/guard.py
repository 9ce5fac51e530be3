"""The defenses of the model in one worker, whichever of vLLM's model runners calls it.

In the order of a step:

1. `add` and `remove` say which requests there are;
2. `begin` says which rows of the step belong to which of them;
3. the model runs: `at_embeds` and `at_block` read states and change them;
4. `judge` gives a verdict on every prompt that ends in this step;
5. `forcing` makes the sampler say the refusals.

What a detector computes is its own `judge`, and what an edit adds its own function, the same that
run with transformers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from safesight.activations import resid_post
from safesight.errors import ModelError
from safesight.generation.edits import Edit, LastTokenEdit, VisualTokenEdit
from safesight.generation.prefill import Decision, Detector
from safesight.models.families import FAMILIES
from safesight.vllm import ops
from safesight.vllm.attached import attached, first_changed, layers_read
from safesight.vllm.forcing import Forcing
from safesight.vllm.host import ServedModel, as_vlm
from safesight.vllm.judging import verdict
from safesight.vllm.packed import PackedPrefill
from safesight.vllm.record import Record
from safesight.vllm.replaying import check_replay, run_blocks
from safesight.vllm.requests import Request, Rows, Step, runs

if TYPE_CHECKING:
    from safesight.vllm.settings import Settings

__all__ = ["Guard"]


class Guard:
    """The defenses of one model.

    Args:
        model: vLLM's.
        vllm_config: Its configuration.
        settings: What the operator wrote.

    Raises:
        SafesightError: a defense cannot work on this model.
    """

    def __init__(self, model: Any, vllm_config: Any, settings: Settings) -> None:
        config = vllm_config.model_config
        self.model = model
        self.host = ServedModel(model, config)
        self.defenses = attached(settings, self.host)
        self.device = torch.device(vllm_config.device_config.device)
        self._per_request = settings.per_request
        self._image_token = _image_token(config.hf_config)
        self._pictures_see_ahead = bool(config.is_mm_prefix_lm)
        self.compared = False
        """Whether the model has been compared with the artifacts'; see `gate`."""
        self._requests: dict[int, Request] = {}
        self._replaying = False
        self._read = _reads(self.defenses.detectors.values())
        self._kept = _kept(self._read)
        self._edits = _by_layer(self.defenses.edits.values())
        self._hook()
        starts = [each.replay_from for each in self.defenses.detectors.values()]
        self._replay_from = min((each for each in starts if each is not None), default=None)
        if self._replay_from is not None:
            check_replay(self.host.layers[self._replay_from :], self.host.name)
        slots = vllm_config.scheduler_config.max_num_seqs
        self.forcing = Forcing(*_refusals(self.defenses.detectors, config), slots, self.device)
        self.record = Record(self.host.name, self.defenses, settings)
        self._clear()

    def add(
        self,
        slot: int,
        name: str,
        prompt: Sequence[int] | None,
        params: Any,
        before: Request | None = None,
    ) -> Request:
        """Take in a request, which is refused until it is judged.

        Args:
            slot: Its slot in the engine.
            name: Its id, for the log.
            prompt: The ids of its tokens.
            params: vLLM's `SamplingParams`. `extra_args={"safesight": "off"}` turns the defenses
                off, where that is allowed.
            before: The same one, if it left the batch and comes back.

        Raises:
            ModelError: the model was never compared with the artifacts'.
        """
        if params is not None and not self.compared:  # the comparison's own requests have none
            raise ModelError(
                f"{self.host.name!r} was loaded in a way that passed by the comparison with its "
                "artifacts, so nothing is served. Load it from its checkpoint."
            )
        wanted = (getattr(params, "extra_args", None) or {}).get("safesight")
        defended = not (self._per_request and wanted == "off")
        ids = np.asarray([] if prompt is None else prompt, dtype=np.int64)
        end = getattr(params, "_eos_token_id", None)
        request = self._requests[slot] = Request(slot, name, ids, defended, end)
        request.pictures = len(runs(ids, self._image_token))
        request.words = int((ids != self._image_token).sum())
        if before is not None:
            request.resume(before)
        self._obey(request)
        return request

    def _obey(self, request: Request) -> None:
        """Refuse a request, or let it be answered, as its verdict says."""
        self.forcing.allow(request.slot)
        refusing = request.refusing
        if request.defended and not request.judged:
            refusing = next(iter(self.defenses.detectors), None)
        if refusing is not None:
            self.forcing.refuse(request.slot, refusing, len(request.prompt), request.end)

    def remove(self, slot: int) -> Request | None:
        """Forget the request in a slot, and return it."""
        self.forcing.allow(slot)
        return self._requests.pop(slot, None)

    def begin(
        self, batch: Iterable[tuple[int, int, int, int]], positions: Tensor | None = None
    ) -> None:
        """Say what the next run of the model is over.

        Args:
            batch: For every request its slot, first row, number of rows, and how many of its
                tokens were computed before.
            positions: Of all rows, T or 3 x T.
        """
        self._clear()
        self._step = Step.of(self._requests, batch)
        self._positions: Tensor | None = positions
        if not self._step.rows:
            return
        if self._step.ending():
            self._last_rows = self._step.last_rows(self.device)
        if any(isinstance(each, VisualTokenEdit) for each in self.defenses.edits.values()):
            self._visual_rows, self._owners = self._step.visual_rows(self._image_token, self.device)

    def place(self, positions: Tensor) -> None:
        """Say the positions of all rows, T or 3 x T, if they were not known at `begin`."""
        self._positions = positions

    def skip(self) -> None:
        """The next run of the model has nothing to do with requests."""
        self._clear()

    def at_embeds(self, embeds: Tensor | None) -> None:
        """Change the input of the first block in place, T x d."""
        edits = self._edits.get(-1)
        if not edits or embeds is None or not self._step.rows:
            return
        for edit in edits:
            self._change(edit, embeds, None)

    def at_block(self, layer: int, hidden: Tensor, residual: Tensor | None) -> None:
        """Read what block `layer` returns, and change it in place."""
        if self._replaying or not self._step.rows:
            return
        if layer in self._kept:
            self._keep(layer, hidden, residual)
        if len(self._last_rows) and layer in self._read:
            self._last_states[layer] = _sum(hidden, residual, self._last_rows)
        for edit in self._edits.get(layer, ()):
            self._change(edit, hidden, residual, layer)

    def judge(self, *, quiet: bool = False) -> list[dict[str, Decision]]:
        """A verdict on every prompt that ends in this step, by detector; called once a step.

        Args:
            quiet: Leave the verdicts out of the log.
        """
        ending = self._step.ending()
        found = [
            (name, self._verdict(name, each, ending))
            for name, each in self.defenses.detectors.items()
            if ending
        ]
        if not quiet:
            self.record.write(ending, found)
        for index, rows in enumerate(ending):
            request = rows.request
            request.forget()
            refusing = (name for name, each in found if bool(each.refuse[index]))
            request.judged, request.refusing = True, next(refusing, None)
            self._obey(request)
        self._clear()
        return [
            {name: _row(decision, index) for name, decision in found}
            for index in range(len(ending))
        ]

    def _clear(self) -> None:
        self._step = Step([])
        self._positions = None
        nothing = torch.zeros(0, dtype=torch.long, device=self.device)
        self._last_rows = self._visual_rows = self._owners = nothing
        self._last_states: dict[int, Tensor] = {}

    def _hook(self) -> None:
        number = id(self)
        ops.GUARDS[number] = self
        call = torch.ops.safesight.at_block

        def after(module: Any, args: Any, output: Any, *, layer: int) -> None:
            hidden, residual = output if isinstance(output, tuple) else (output, None)
            call(hidden, residual, number, layer)

        for layer in sorted({*self._read, *self._edits} - {-1}):
            self.host.layers[layer].register_forward_hook(partial(after, layer=layer))

    def _keep(self, layer: int, hidden: Tensor, residual: Tensor | None) -> None:
        """Keep the states of prompts for a replay."""
        assert self._positions is not None
        assert self._replay_from is not None
        for each in self._step.rows:
            rows = slice(each.start, each.start + each.count)
            request = each.request
            request.states.setdefault(layer, []).append(_sum(hidden, residual, rows))
            if layer == self._kept[0]:
                request.positions.append(self._positions[..., rows].clone())
                for block, more in self._additions(self._replay_from - 1):
                    request.added.setdefault(block, []).append(more[rows].clone())

    def _additions(self, start: int) -> list[tuple[int, Tensor]]:
        """What the model adds after blocks from `start` on (DeepStack), T x d."""
        levels = getattr(self.model, "deepstack_input_embeds", None) or []
        if not getattr(self.model, "deepstack_input_embeds_num_tokens", 0):
            return []
        return [(block, more) for block, more in enumerate(levels) if block >= start]

    def _change(self, edit: Edit, hidden: Tensor, residual: Tensor | None, layer: int = -1) -> None:
        visual = isinstance(edit, VisualTokenEdit)
        rows = self._visual_rows if visual else self._last_rows
        if not len(rows):
            return
        states = _sum(hidden, residual, rows)
        if isinstance(edit, VisualTokenEdit):
            added = edit.shift(states, self._owners)
            moved = (added != 0).any(dim=-1)
            rows, new = rows[moved], (states.float() + added)[moved].to(states.dtype)
        else:
            new = edit.changes[layer](states.float()).to(states.dtype)
        if residual is not None:
            new = (new.float() - residual[rows].float()).to(hidden.dtype)
        hidden[rows] = new

    def _prefill(self, detector: Detector, ending: Sequence[Rows]) -> PackedPrefill:
        """What a detector sees of the prompts that end in this step."""
        host = as_vlm(self.host)
        layers = layers_read(detector)
        if detector.replay_from is None:  # all of them, in their order
            ends = torch.arange(len(ending), device=self.device)
            states = {resid_post(layer): self._last_states[layer] for layer in layers}
            return PackedPrefill(host, states, {}, ends=ends)
        requests = [each.request for each in ending]
        states = {
            resid_post(layer): torch.cat([part for one in requests for part in one.states[layer]])
            for layer in layers
        }
        ends = torch.tensor([len(one.prompt) for one in requests], device=self.device).cumsum(0) - 1
        replay = partial(self._replay, requests, ends)
        return PackedPrefill(host, states, {}, ends=ends, replayed=replay)

    def _replay(
        self, requests: Sequence[Request], ends: Tensor, hidden: Tensor, start: int
    ) -> Tensor:
        positions = torch.cat([part for one in requests for part in one.positions], dim=-1)
        added = {
            block: torch.cat([_added(one, block, hidden) for one in requests])
            for block in {block for one in requests for block in one.added}
        }
        self._replaying = True
        try:
            stops = (ends + 1).tolist()
            mutual = self._mutual(requests, stops) if self._pictures_see_ahead else []
            return run_blocks(self.host.layers, start, hidden, positions, stops, added, mutual)
        finally:
            self._replaying = False

    def _mutual(self, requests: Sequence[Request], stops: Sequence[int]) -> list[tuple[int, int]]:
        """The rows of every picture: the first, and the one after the last."""
        starts = [stop - len(one.prompt) for one, stop in zip(requests, stops, strict=True)]
        return [
            (start + first, start + last)
            for one, start in zip(requests, starts, strict=True)
            for first, last in runs(one.prompt, self._image_token)
        ]

    def _verdict(self, name: str, detector: Detector, ending: Sequence[Rows]) -> Decision:
        """The decision on every prompt; one whose states were not all seen spoils no other."""
        whole = [
            index
            for index, each in enumerate(ending)
            if detector.replay_from is None or each.request.seen == len(each.request.prompt)
        ]
        judged = [ending[index] for index in whole]
        return verdict(name, detector, lambda: self._prefill(detector, judged), whole, len(ending))


def _added(request: Request, block: int, like: Tensor) -> Tensor:
    """What is added to the tokens of one prompt after a block: zeros if it has no pictures."""
    if block in request.added and sum(map(len, request.added[block])) == len(request.prompt):
        return torch.cat(request.added[block])
    return like.new_zeros(len(request.prompt), like.shape[-1])


def _sum(hidden: Tensor, residual: Tensor | None, rows: Any) -> Tensor:
    """The states in some rows: vLLM's blocks hand on two parts that the next one adds."""
    return hidden[rows].clone() if residual is None else hidden[rows] + residual[rows]


def _row(decision: Decision, index: int) -> Decision:
    rows = slice(index, index + 1)
    return Decision(
        decision.scores[rows], decision.refuse[rows], decision.threshold, decision.error
    )


def _reads(detectors: Iterable[Detector]) -> dict[int, list[Detector]]:
    found: dict[int, list[Detector]] = {}
    for detector in detectors:
        for layer in layers_read(detector):
            found.setdefault(layer, []).append(detector)
    return found


def _kept(read: dict[int, list[Detector]]) -> list[int]:
    """The blocks whose outputs a replay needs at all tokens of a prompt, in order."""
    return sorted(
        layer
        for layer, detectors in read.items()
        if any(each.replay_from is not None for each in detectors)
    )


def _by_layer(edits: Iterable[Edit]) -> dict[int, list[Edit]]:
    """The edits of each block's output in their order; -1 is the input of the first block."""
    found: dict[int, list[Edit]] = {}
    for edit in edits:
        layers = edit.changes if isinstance(edit, LastTokenEdit) else [first_changed(edit)]
        for layer in layers:
            found.setdefault(layer, []).append(edit)
    return found


def _image_token(config: Any) -> int:
    family = FAMILIES.get(config.model_type)
    return int(getattr(config, family.image_token if family else "image_token_id"))


def _refusals(
    detectors: Mapping[str, Detector], model_config: Any
) -> tuple[dict[str, list[int]], int]:
    """The tokens of every detector's refusal, and the token that ends a turn."""
    from vllm.tokenizers import cached_tokenizer_from_config

    tokenizer = cached_tokenizer_from_config(model_config)
    texts = {name: each.refusal for name, each in detectors.items()}
    tokens = {
        name: tokenizer.encode(text, add_special_tokens=False) for name, text in texts.items()
    }
    return tokens, tokenizer.eos_token_id
