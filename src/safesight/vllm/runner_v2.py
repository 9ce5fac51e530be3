"""vLLM's Model Runner V2, which GPUs get: who is in which row.

V2 lets a model bring its own state class, which hears of requests, batches and embeddings, and may
put a sampler of its own before vLLM's.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from vllm.v1.worker.gpu.sample.logits_processor.interface import LogitsProcessor

from safesight.errors import ModelError
from safesight.vllm.about import About
from safesight.vllm.gate import once
from safesight.vllm.guard import Guard
from safesight.vllm.request_check import check_request
from safesight.vllm.requests import Left

__all__ = ["DefendedState", "Requests", "adopt"]


class Requests(LogitsProcessor):  # type: ignore[misc]
    """Only checks what requests ask for, in the front end; `DefendedState` does the rest.

    vLLM is given the name of a subclass; see `about`.
    """

    about: About

    @classmethod
    def validate_params(cls, sampling_params: Any) -> None:
        """Refuse a request that asks for what it may not have."""
        check_request(sampling_params, cls.about)

    def add_request(self, req_idx: int, sampling_params: Any) -> bool:
        """No logits of it have to be processed here."""
        return False

    def apply(self, logits: Tensor, ctx: Any) -> Tensor:
        """The same logits."""
        return logits


@cache
def __getattr__(name: str) -> type[Requests]:
    return type(name, (Requests,), {"about": About.of_class(name), "__module__": __name__})


class DefendedState:
    """Mixed in before the state class that vLLM has for the model."""

    def __init__(self, vllm_config: Any, model: Any, encoder_cache: Any, device: Any) -> None:
        super().__init__(vllm_config, model, encoder_cache, device)  # type: ignore[call-arg]
        self._guard: Guard = model.safesight
        self._slots: dict[str, int] = {}
        scheduling = vllm_config.scheduler_config
        self._left = Left(4 * scheduling.max_num_seqs, 4 * scheduling.max_num_batched_tokens)

    def add_request(self, req_index: int, new_req_data: Any) -> None:
        """A request takes a slot."""
        super().add_request(req_index, new_req_data)  # type: ignore[misc]
        name = new_req_data.req_id
        self._slots[name] = req_index
        params, prompt = new_req_data.sampling_params, new_req_data.prompt_token_ids
        self._guard.add(req_index, name, prompt, params, self._left.take(name))

    def remove_request(self, req_id: str) -> None:
        """A request gives its slot back."""
        slot = self._slots.pop(req_id, None)
        request = None if slot is None else self._guard.remove(slot)
        if request is not None:
            self._left.put(req_id, request)
        super().remove_request(req_id)  # type: ignore[misc]

    def preprocess_state(self, input_batch: Any, *args: Any, **kwargs: Any) -> None:
        """A forward pass over these rows begins."""
        super().preprocess_state(input_batch, *args, **kwargs)  # type: ignore[misc]
        columns = (
            input_batch.idx_mapping_np,
            input_batch.query_start_loc_np,
            input_batch.num_scheduled_tokens,
            input_batch.num_computed_tokens_np,
        )
        rows = zip(*(each[: input_batch.num_reqs].tolist() for each in columns), strict=True)
        self._guard.begin(rows, input_batch.positions)

    def prepare_inputs_embeds(self, *args: Any, **kwargs: Any) -> Any:
        """The input of the first block."""
        embeds = super().prepare_inputs_embeds(*args, **kwargs)  # type: ignore[misc]
        self._guard.at_embeds(embeds)
        return embeds

    def prepare_inputs(self, *args: Any, **kwargs: Any) -> Any:
        """The positions, if they have three parts (M-RoPE)."""
        inputs = super().prepare_inputs(*args, **kwargs)  # type: ignore[misc]
        if inputs.get("positions") is not None:
            self._guard.place(inputs["positions"])
        return inputs

    def custom_sampler(self, sampler: Any) -> Any:
        """A sampler that obeys verdicts, before the model's."""
        custom = super().custom_sampler(sampler)  # type: ignore[misc]
        if custom is not None:
            raise ModelError(
                f"{self._guard.host.name!r} has a sampler of its own in vLLM, which safesight "
                "cannot stand before. Serve it with `safesight serve` on transformers."
            )
        return (_Sampler(sampler, self._guard), None) if self._guard.defenses.detectors else None


class _Sampler:
    """Stands before vLLM's sampler: a refused request gets the refusal's next token."""

    def __init__(self, sampler: Any, guard: Guard) -> None:
        self._sampler, self._guard = sampler, guard

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sampler, name)

    def __call__(self, logits: Tensor, input_batch: Any) -> Any:
        self._guard.judge()
        slots = input_batch.expanded_idx_mapping.long()
        positions = input_batch.positions[input_batch.logits_indices].to(torch.long)
        logits = self._guard.forcing.hide(logits, slots, positions)
        output = self._sampler(logits, input_batch)
        # A grammar may have ruled the refusal out; it is said all the same.
        self._guard.forcing.overrule(output.sampled_token_ids, slots, positions)
        return output


def adopt(model: Any, vllm_config: Any, guard: Guard) -> None:
    """Let the model bring a state class that knows the guard."""
    from vllm.v1.worker.gpu.model_states import resolve_model_state_cls

    own = resolve_model_state_cls(vllm_config, model)
    defended = type("Defended" + own.__name__, (DefendedState, own), {})
    object.__setattr__(model, "get_model_state_cls", lambda: defended)
    once(model, guard, vllm_config, model.forward)
