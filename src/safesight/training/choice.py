"""Choose the trained parameters of a model: LoRA adapters, whole parameters, or both.

Adapters go on plain linear layers of the decoder's blocks. A router of a mixture of experts gets
none, since small changes there send tokens to other experts; experts that are fused into one
tensor cannot get one. `reached` says how much of the blocks is left.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

from torch import nn

from safesight.errors import ArtifactError, InputError, ModelError
from safesight.fitting.stored import is_number
from safesight.models.quantized import is_quantized
from safesight.models.wrappers import ADAPTER, adapters, is_offloaded

if TYPE_CHECKING:
    from safesight.fitting.artifact import Artifact
    from safesight.models import VLM
    from safesight.training.config import TuningConfig

__all__ = ["Choice", "choose", "projector_parameters", "reached"]

_log = logging.getLogger("safesight")
_ROUTER = re.compile(r"(?:^|\.)(?:router|gate|shared_expert_gate)(?:\.|$)")
"""Where linear layers choose experts: mlp.gate, feed_forward.router, mlp.shared_expert_gate. The
gate_proj of an expert is none of them."""
_LOW = 0.5
"""Below this share of a block's weights, a choice that nobody made is worth a warning."""


@dataclass(frozen=True)
class Choice:
    """The parameters to train, by name; JSON values only."""

    lora: tuple[str, ...] = ()
    """Linear layers that get LoRA adapters."""
    whole: tuple[str, ...] = ()
    """Parameters trained in full."""
    rank: int = 1
    lora_alpha: float = 1.0
    dropout: float = 0.0

    @classmethod
    def of(cls, artifact: Artifact) -> Choice:
        """The choice recorded in an artifact.

        Raises:
            ArtifactError: the artifact does not record one.
        """
        lora, whole = artifact.fitted.get("lora"), artifact.fitted.get("whole")
        said = lora if isinstance(lora, Mapping) else {}
        modules, rank, alpha = map(said.get, ("modules", "rank", "lora_alpha"))
        if not (
            are_names(modules)
            and are_names(whole)
            and is_number(rank)
            and is_number(alpha)
            and rank == int(rank) >= 1
            and alpha > 0
        ):
            raise ArtifactError(
                f"The {artifact.defense} artifact does not say which weights it changes. Fit it "
                "again."
            )
        return cls(tuple(modules), tuple(whole), int(rank), float(alpha))

    def to_json(self) -> dict[str, Any]:
        """For an artifact's `fitted`."""
        lora = {"modules": list(self.lora), "rank": self.rank, "lora_alpha": self.lora_alpha}
        return {"lora": lora, "whole": list(self.whole)}


def choose(vlm: VLM, config: TuningConfig) -> Choice:
    """The parameter names that the settings select on this model.

    Raises:
        InputError: a block or linear layer that the model does not have, or a learning rate for
            a projector that is not trained.
        ModelError: the table of families gives no projector, or the weights cannot change.
    """
    refuse_fixed(vlm)
    layers = range(vlm.num_layers) if config.layers is None else config.layers
    wrong = [layer for layer in layers if not 0 <= layer < vlm.num_layers]
    if wrong:
        raise InputError(
            f"{vlm.name!r} has {vlm.num_layers} decoder blocks, counted from 0, and no block "
            f"{wrong[0]}. Choose from these."
        )
    if config.projector_learning_rate is not None and not config.projector:
        raise InputError(
            "projector_learning_rate has no effect unless projector is true. Set both."
        )
    maps = _linear_maps(vlm, layers, config.modules)
    if config.parameters == "lora" and config.modules is None:
        _warn_if_little(vlm, config, maps)
    whole: set[str] = set()
    if config.parameters == "full":
        if config.layers is None and config.modules is None:
            whole = _within(vlm, vlm.family.part(vlm.model, "decoder"), vlm.lm_head)
        elif config.modules is None:
            whole = _within(vlm, *(vlm.layers[layer] for layer in layers))
        else:
            whole = _within(vlm, *(vlm.model.get_submodule(name) for name in maps))
        maps = []
    if config.projector:
        whole |= projector_parameters(vlm)
    return Choice(
        lora=tuple(maps),
        whole=tuple(sorted(whole)),
        rank=config.rank,
        lora_alpha=config.lora_alpha,
        dropout=config.lora_dropout,
    )


def projector_parameters(vlm: VLM) -> set[str]:
    """Names of the projector's parameters.

    Raises:
        ModelError: the table of families gives no projector.
    """
    if not vlm.family.projector:
        raise ModelError(f"The location of the projector in {vlm.name!r} is not known.")
    return _within(vlm, vlm.family.part(vlm.model, "projector"))


def _linear_maps(vlm: VLM, layers: Any, modules: tuple[str, ...] | None) -> list[str]:
    """Full names of the linear layers of these blocks."""
    home = next(name for name, module in vlm.model.named_modules() if module is vlm.layers)
    found, known = [], set()
    for layer in layers:
        for name, module in vlm.layers[layer].named_modules():
            # A subclass may return something else than its product, as Llama 4's router does.
            if type(module) is nn.Linear and not _ROUTER.search(name):
                known.add(name)
                if modules is None or name in modules:
                    found.append(f"{home}.{layer}.{name}")
    missing = sorted(set(modules or ()) - known)
    if missing or not found:
        raise InputError(
            f"No chosen block of {vlm.name!r} has a linear layer "
            f"{missing[0] if missing else ''!r}. They have {', '.join(sorted(known))}."
        )
    return found


def reached(vlm: VLM, choice: Choice, layers: Sequence[int] | None) -> float:
    """The share of the blocks' parameters that a choice changes, 0 to 1.

    Args:
        vlm: The model.
        choice: What is trained; an adapter counts as the whole matrix that it is added to.
        layers: The blocks; None for all of them.
    """
    blocks = [vlm.layers[n] for n in (range(vlm.num_layers) if layers is None else layers)]
    sizes = {id(p): p.numel() for block in blocks for p in block.parameters()}
    changed = [vlm.model.get_submodule(name).weight for name in choice.lora]
    changed += [vlm.model.get_parameter(name) for name in choice.whole]
    total = sum(sizes.values())
    return sum(sizes.get(id(each), 0) for each in changed) / total if total else 0.0


def _warn_if_little(vlm: VLM, config: TuningConfig, maps: Sequence[str]) -> None:
    share = reached(vlm, Choice(lora=tuple(maps)), config.layers)
    if share < _LOW:
        _log.warning(
            "LoRA reaches %.1f%% of the weights in the chosen decoder blocks of %r: the rest, such "
            "as fused experts, has no linear layers. Use parameters=full to train all of it.",
            100 * share,
            vlm.name,
        )


def _within(vlm: VLM, *parts: nn.Module) -> set[str]:
    """Names of the parameters in these modules; a shared one is listed once."""
    inside = {id(parameter) for part in parts for parameter in part.parameters()}
    return {name for name, p in vlm.model.named_parameters() if id(p) in inside}


def refuse_fixed(vlm: VLM) -> None:
    """Say which weights cannot be changed, before anything is done to them."""
    if is_quantized(vlm.model):
        raise ModelError(
            f"The weights of {vlm.name!r} are quantized, so no defense can change them. Load the "
            "model without quantization, or quantize what safesight merge writes."
        )
    if is_offloaded(vlm.model):
        raise ModelError(
            f"Some weights of {vlm.name!r} are offloaded, so no defense can change them. Load the "
            "model without offloading, or load what safesight merge writes."
        )
    refuse_adapters(vlm, but=ADAPTER)


def refuse_adapters(vlm: VLM, but: str | None = None) -> None:
    if any(but not in active for _, active, *_ in adapters(vlm.model)):
        raise ModelError(
            f"{vlm.name!r} already has an adapter. Remove it, or merge it into the weights first."
        )


def are_names(found: object) -> TypeGuard[Sequence[str]]:
    """Whether it is a list of texts that are all different."""
    return (
        isinstance(found, list | tuple)
        and all(isinstance(each, str) for each in found)
        and len(set(found)) == len(found)
    )
