"""What of a model learns, and the result put on it and taken off again.

Two ways, which may be used together: small matrices beside linear maps (LoRA, by PEFT), and
whole parameters. Both are *installed* for as long as a `with` block lasts: linear maps are
replaced by PEFT's layers around them, parameters point at other numbers. The originals are kept
and put back, so the model is afterwards what it was, bit for bit; nothing is ever merged into
them. Whole parameters are stored as they are after training, not as differences, since
w + (w' - w) is not w' in floating point.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from safesight.errors import ArtifactError, InputError, ModelError
from safesight.extras import need
from safesight.models.quantized import is_quantized
from safesight.models.wrappers import adapters, is_offloaded

if TYPE_CHECKING:
    from safesight.fitting.artifact import Artifact
    from safesight.models import VLM
    from safesight.training.config import TuningConfig

__all__ = [
    "ADAPTER",
    "Choice",
    "Installed",
    "choose",
    "installed",
    "projector_parameters",
    "tuned",
]

ADAPTER = "safesight"
"""The adapter's name inside PEFT's layers."""


@dataclass(frozen=True)
class Choice:
    """What learns, by name; JSON values only."""

    lora: tuple[str, ...] = ()
    """Linear maps that get small matrices."""
    whole: tuple[str, ...] = ()
    """Parameters that learn in full."""
    rank: int = 1
    lora_alpha: float = 1.0
    dropout: float = 0.0

    @classmethod
    def of(cls, artifact: Artifact) -> Choice:
        """What an artifact holds.

        Raises:
            ArtifactError: it does not say so.
        """
        try:
            lora, whole = artifact.fitted["lora"], artifact.fitted["whole"]
            return cls(
                lora=tuple(lora["modules"]),
                whole=tuple(whole),
                rank=int(lora["rank"]),
                lora_alpha=float(lora["lora_alpha"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(
                f"The {artifact.defense} artifact does not say what it changes. Fit it again."
            ) from error

    def to_json(self) -> dict[str, Any]:
        """For an artifact's `fitted`."""
        lora = {"modules": list(self.lora), "rank": self.rank, "lora_alpha": self.lora_alpha}
        return {"lora": lora, "whole": list(self.whole)}


def choose(vlm: VLM, config: TuningConfig) -> Choice:
    """The names that the settings mean on this model.

    Raises:
        InputError: a block or a linear map that it does not have, or a step size for a projector
            that does not learn.
        ModelError: no projector where the table of families says, or weights that cannot change.
    """
    _refuse_fixed(vlm)
    layers = range(vlm.num_layers) if config.layers is None else config.layers
    wrong = [layer for layer in layers if not 0 <= layer < vlm.num_layers]
    if wrong:
        raise InputError(
            f"{vlm.name!r} has {vlm.num_layers} decoder blocks, counted from 0, and no block "
            f"{wrong[0]}. Choose layers among them."
        )
    if config.projector_learning_rate is not None and not config.projector:
        raise InputError("projector_learning_rate does nothing unless projector is true. Set both.")
    maps = _linear_maps(vlm, layers, config.modules)
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
        ModelError: no projector where the table of families says.
    """
    if not vlm.family.projector:
        raise ModelError(f"It is not known where {vlm.name!r} has its projector.")
    return _within(vlm, vlm.family.part(vlm.model, "projector"))


def _linear_maps(vlm: VLM, layers: Any, modules: tuple[str, ...] | None) -> list[str]:
    """Full names of the linear maps of these blocks."""
    home = next(name for name, module in vlm.model.named_modules() if module is vlm.layers)
    found, known = [], set()
    for layer in layers:
        for name, module in vlm.layers[layer].named_modules():
            if isinstance(module, nn.Linear):
                known.add(name)
                if modules is None or name in modules:
                    found.append(f"{home}.{layer}.{name}")
    missing = sorted(set(modules or ()) - known)
    if missing or not found:
        raise InputError(
            f"No chosen block of {vlm.name!r} has a linear map "
            f"{missing[0] if missing else ''!r}. They have {', '.join(sorted(known))}."
        )
    return found


def _within(vlm: VLM, *parts: nn.Module) -> set[str]:
    """Names of the parameters inside these modules; a shared one counts once."""
    inside = {id(parameter) for part in parts for parameter in part.parameters()}
    return {name for name, p in vlm.model.named_parameters() if id(p) in inside}


@dataclass
class Installed:
    """What `installed` put on a model; can be switched off for reference passes."""

    adapters: dict[str, tuple[nn.Module, str, Any]] = field(default_factory=dict)
    """Name of the linear map to its owner, its name there, and PEFT's layer in its place."""
    whole: dict[str, nn.Parameter] = field(default_factory=dict)
    originals: dict[str, Tensor] = field(default_factory=dict)
    """The numbers of `whole` before."""
    reference: dict[str, Tensor] = field(default_factory=dict)
    """The same in the dtype of training: a parameter that changes its dtype loses the hooks by
    which gradients are averaged over devices."""

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """Everything that is not the base model's, by the names of artifacts."""
        found = {}
        for name, (_, _, layer) in self.adapters.items():
            found[f"{name}.lora_A.weight"] = layer.lora_A[ADAPTER].weight
            found[f"{name}.lora_B.weight"] = layer.lora_B[ADAPTER].weight
        return {**found, **self.whole}

    def tensors(self) -> dict[str, Tensor]:
        """Copies of the present numbers: matrices in float32, parameters in the model's dtype."""
        return {
            name: parameter.detach().to(self._dtype(name, parameter), copy=True)
            for name, parameter in self.parameters.items()
        }

    def _dtype(self, name: str, parameter: Tensor) -> torch.dtype:
        return self.originals[name].dtype if name in self.originals else parameter.dtype

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over numbers that `tensors` or a checkpoint gave.

        Raises:
            ArtifactError: names or shapes are not those of this model.
        """
        mine = self.parameters
        shapes = {name: value.shape for name, value in mine.items()}
        if shapes != {name: value.shape for name, value in tensors.items()}:
            raise ArtifactError(
                "The tensors are not those that this model needs. Fit the artifact again."
            )
        for name, parameter in mine.items():
            parameter.copy_(tensors[name])

    @contextmanager
    def off(self) -> Iterator[None]:
        """Inside, the model computes as its base does."""
        trained = {name: parameter.data for name, parameter in self.whole.items()}
        for owner, child, layer in self.adapters.values():
            setattr(owner, child, layer.base_layer)
        for name, parameter in self.whole.items():
            parameter.data = self.reference[name]
        try:
            yield
        finally:
            for name, parameter in self.whole.items():
                parameter.data = trained[name]
            for owner, child, layer in self.adapters.values():
                setattr(owner, child, layer)

    @torch.no_grad()
    def merged(self) -> dict[str, Tensor]:
        """By the base model's names, what one checkpoint without adapters holds instead."""
        found = {name: p.detach().to(self._dtype(name, p)) for name, p in self.whole.items()}
        for name, (_, _, layer) in self.adapters.items():
            weight = layer.base_layer.weight
            delta = layer.get_delta_weight(ADAPTER)
            found[f"{name}.weight"] = (weight.float() + delta.float()).to(weight.dtype)
        return found


@contextmanager
def installed(vlm: VLM, choice: Choice, *, training: bool = False) -> Iterator[Installed]:
    """Inside, small matrices stand beside the weights and chosen parameters have other numbers.

    Args:
        vlm: The model.
        choice: What is to change; it starts as the base model is.
        training: Whether the result learns. Then only it has gradients, and parameters are
            float32 copies; otherwise nothing has.

    Raises:
        ModelError: the model has an adapter already, or its weights cannot be changed.
    """
    model = vlm.model
    _refuse_fixed(vlm)
    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    modes = [(module, module.training) for module in model.modules()]
    present = set(vars(model))
    result, added = Installed(), set[str]()
    try:
        result.adapters = _inject(vlm, choice)
        added = set(vars(model)) - present
        named = dict(model.named_parameters())
        missing = [name for name in choice.whole if name not in named]
        if missing:
            raise ArtifactError(f"{vlm.name!r} has no parameter {missing[0]!r}. Fit it again.")
        for name in choice.whole:
            parameter = result.whole[name] = named[name]
            original = result.originals[name] = parameter.data
            wide = original.float() if training else original
            result.reference[name], parameter.data = wide, wide.clone()
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        if training:
            for parameter in result.parameters.values():
                parameter.requires_grad_(True)
        else:
            for parameter, learns in wanted:
                parameter.requires_grad_(learns)
        yield result
    finally:
        for owner, child, layer in result.adapters.values():
            setattr(owner, child, layer.base_layer)
        for name, parameter in result.whole.items():
            parameter.data = result.originals[name]
            parameter.grad = None
        for name in added:
            delattr(model, name)
        for parameter, learns in wanted:
            parameter.requires_grad_(learns)
        if training:
            for module, mode in modes:
                module.training = mode


def _refuse_fixed(vlm: VLM) -> None:
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
    _refuse_adapters(vlm, but=ADAPTER)


def _refuse_adapters(vlm: VLM, but: str | None = None) -> None:
    if any(but not in active for _, active, *_ in adapters(vlm.model)):
        raise ModelError(
            f"{vlm.name!r} has an adapter already. Take it off, or merge it into the weights first."
        )


def _inject(vlm: VLM, choice: Choice) -> dict[str, tuple[nn.Module, str, Any]]:
    """PEFT's layers in the place of linear maps; those that were placed, also if it fails."""
    if not choice.lora:
        return {}
    need("peft", "train", "A model with small matrices")
    from peft import LoraConfig, inject_adapter_in_model

    _refuse_adapters(vlm)
    model = vlm.model
    config = LoraConfig(
        r=choice.rank,
        lora_alpha=choice.lora_alpha,
        lora_dropout=choice.dropout,
        target_modules=list(choice.lora),
        bias="none",
    )
    modes = {name: model.get_submodule(name).training for name in choice.lora}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about conventions of hub adapters
        inject_adapter_in_model(config, model, ADAPTER)
    found = {}
    for name in choice.lora:
        owner, _, child = name.rpartition(".")
        layer = model.get_submodule(name)
        layer.train(modes[name])
        # Base weights may be half precision; what learns is not, on disk neither.
        for matrix in (layer.lora_A[ADAPTER], layer.lora_B[ADAPTER]):
            matrix.weight.data = matrix.weight.data.float()
        found[name] = (model.get_submodule(owner), child, layer)
    return found


@contextmanager
def tuned(vlm: VLM, artifact: Artifact) -> Iterator[Installed]:
    """Inside, the model has the weights of an artifact.

    Raises:
        ArtifactError: the artifact is not one of changed weights, or damaged.
        ModelError: the model has an adapter already.
    """
    with installed(vlm, Choice.of(artifact)) as result:
        extra = artifact.fitted.get("extra", ())  # for analysis
        result.load({name: t for name, t in artifact.tensors.items() if name not in extra})
        yield result
