"""Install trained weights in a model, and remove them.

Adapters and whole parameters, as `choice` names them, are *installed* for the length of a `with`
block: PEFT's layers wrap the linear layers, and parameters point to other values. The originals
are kept and put back, and nothing is ever merged into them, so the model is restored bit for bit,
also if the installation fails half way. Whole parameters are stored as they are after training,
not as differences, since w + (w' - w) is not w' in floating point.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from safesight.activations.hooks import hooked
from safesight.errors import ArtifactError, ModelError
from safesight.extras import need
from safesight.fitting.stored import float32
from safesight.models.wrappers import ADAPTER
from safesight.training.choice import Choice, are_names, refuse_adapters, refuse_fixed

if TYPE_CHECKING:
    from safesight.fitting.stored import Stored
    from safesight.models import VLM

__all__ = ["Installed", "Weights", "installed", "tuned"]


@dataclass
class Installed:
    """The changes `installed` made to a model; can be switched off for reference passes."""

    adapters: dict[str, tuple[nn.Module, str, Any]] = field(default_factory=dict)
    """By name of the linear layer: its parent, its name there, and PEFT's layer in its place."""
    whole: dict[str, nn.Parameter] = field(default_factory=dict)
    originals: dict[str, Tensor] = field(default_factory=dict)
    """The original values of `whole`."""
    reference: dict[str, Tensor] = field(default_factory=dict)
    """The originals in the dtype of training: a parameter that changes its dtype loses the hooks
    that average gradients over devices."""

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """Everything that is not part of the base model, by its name in artifacts."""
        found = {}
        for name, (_, _, layer) in self.adapters.items():
            found[f"{name}.lora_A.weight"] = layer.lora_A[ADAPTER].weight
            found[f"{name}.lora_B.weight"] = layer.lora_B[ADAPTER].weight
        return {**found, **self.whole}

    def tensors(self) -> dict[str, Tensor]:
        """Copies of the current values: adapters in float32, parameters in the model's dtype."""
        return {
            name: parameter.detach().to(self._dtype(name, parameter), copy=True)
            for name, parameter in self.parameters.items()
        }

    @property
    def changed(self) -> bool:
        """Whether any value differs from the base model's."""
        moved = (not torch.equal(p.data, self.reference[name]) for name, p in self.whole.items())
        added = (bool(layer.lora_B[ADAPTER].weight.any()) for *_, layer in self.adapters.values())
        return any(moved) or any(added)

    def _dtype(self, name: str, parameter: Tensor) -> torch.dtype:
        return self.originals[name].dtype if name in self.originals else parameter.dtype

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Load values from `tensors` or a checkpoint.

        Raises:
            ArtifactError: names or shapes do not match this model.
        """
        mine = self.parameters
        shapes = {name: value.shape for name, value in mine.items()}
        if shapes != {name: value.shape for name, value in tensors.items()}:
            raise ArtifactError("The tensors do not match this model. Fit the artifact again.")
        for name, parameter in mine.items():
            parameter.copy_(tensors[name])

    @contextmanager
    def off(self) -> Iterator[None]:
        """Inside, the model computes as the base model does."""
        trained = {name: parameter.data for name, parameter in self.whole.items()}
        for owner, child, layer in self.adapters.values():
            setattr(owner, child, layer.base_layer)
        self._give(self.reference)
        try:
            yield
        finally:
            self._give(trained)
            for owner, child, layer in self.adapters.values():
                setattr(owner, child, layer)

    def _give(self, values: Mapping[str, Tensor]) -> None:
        """Other values for whole parameters.

        Autocast keeps the copy in half precision that it made of a parameter, whatever it holds by
        now, so what it keeps is thrown away.
        """
        for name, parameter in self.whole.items():
            parameter.data = values[name]
        torch.clear_autocast_cache()

    @torch.no_grad()
    def merged(self) -> dict[str, Tensor]:
        """The changed weights with adapters merged, by the base model's names."""
        found = {name: p.detach().to(self._dtype(name, p)) for name, p in self.whole.items()}
        for name, (_, _, layer) in self.adapters.items():
            weight = layer.base_layer.weight
            delta = layer.get_delta_weight(ADAPTER)
            found[f"{name}.weight"] = (weight.float() + delta.float()).to(weight.dtype)
        return found


@contextmanager
def installed(vlm: VLM, choice: Choice, *, training: bool = False) -> Iterator[Installed]:
    """Inside, the model has adapters, and the chosen parameters can be given other values.

    Args:
        vlm: The model.
        choice: What to change; everything starts as in the base model.
        training: Whether to train the result. If so, only it has gradients, and parameters are
            float32 copies; otherwise nothing has gradients.

    Raises:
        ModelError: the model already has an adapter, or its weights cannot be changed.
    """
    narrow = _in_its_dtype(vlm) if training else nullcontext()
    with vlm.same_identity(choice.whole), narrow, _put_in(vlm, choice, training) as result:
        yield result


@contextmanager
def _in_its_dtype(vlm: VLM) -> Iterator[None]:
    """Inside, embeddings have the model's dtype though training widens them, as pictures do."""
    dtype = vlm.dtype
    with hooked() as hooks:
        hooks.after(vlm.embed_tokens, lambda module, args, states: states.to(dtype))
        yield


@contextmanager
def _put_in(vlm: VLM, choice: Choice, training: bool) -> Iterator[Installed]:
    model = vlm.model
    refuse_fixed(vlm)
    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    modes = [(module, module.training) for module in model.modules()]
    places = [_place(model, name) for name in choice.lora]
    result = Installed()
    try:
        result.adapters = _inject(vlm, choice)
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
        for owner, child, linear in places:
            setattr(owner, child, linear)
        for name, original in result.originals.items():
            now = result.whole[name]
            # The model may have been moved or converted meanwhile; training widens by itself.
            now.data = original if training else original.to(now.device, now.dtype)
            now.grad = None
        for parameter, learns in wanted:
            parameter.requires_grad_(learns)
        if training:
            for module, mode in modes:
                module.training = mode


def _place(model: nn.Module, name: str) -> tuple[nn.Module, str, Any]:
    """A module's parent, its name there, and the module."""
    owner, _, child = name.rpartition(".")
    parent = model.get_submodule(owner)
    return parent, child, getattr(parent, child)


def _inject(vlm: VLM, choice: Choice) -> dict[str, tuple[nn.Module, str, Any]]:
    """Wrap linear layers in PEFT's; returns each one's parent, its name there, and the wrapper."""
    if not choice.lora:
        return {}
    need("peft", "train", "A model with LoRA adapters")
    from peft import LoraConfig, inject_adapter_in_model

    refuse_adapters(vlm)
    model = vlm.model
    config = LoraConfig(
        r=choice.rank,
        lora_alpha=choice.lora_alpha,
        lora_dropout=choice.dropout,
        target_modules=[f"base.{name}" for name in choice.lora],
        bias="none",
    )
    modes = {name: model.get_submodule(name).training for name in choice.lora}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about naming conventions on the hub
        # Not on the model itself: where PEFT knows its type as a mixture of experts, it would take
        # the gate_proj of a dense block or a shared expert for the fused experts.
        try:
            inject_adapter_in_model(config, nn.ModuleDict({"base": model}), ADAPTER)
        except (ValueError, TypeError) as error:
            raise ModelError(
                f"PEFT cannot put adapters on {vlm.name!r} ({error}). Choose other modules, or "
                "train parameters=full."
            ) from error
    found = {}
    for name in choice.lora:
        owner, child, layer = _place(model, name)
        layer.train(modes[name])
        # Base weights may be in half precision; adapters never are, not even on disk.
        for matrix in (layer.lora_A[ADAPTER], layer.lora_B[ADAPTER]):
            matrix.weight.data = matrix.weight.data.float()
        found[name] = (owner, child, layer)
    return found


@dataclass(frozen=True)
class Weights:
    """What a training run learnt, checked against the model it is for."""

    choice: Choice
    tensors: Mapping[str, Tensor]

    @classmethod
    def read(cls, stored: Stored) -> Weights:
        """The weights in an artifact.

        Raises:
            ArtifactError: the artifact is not one of changed weights, or damaged.
        """
        choice = Choice.of(stored.artifact)
        extra = stored.artifact.fitted.get("extra", ())  # for analysis
        if not are_names(extra):
            raise stored.error("does not hold 'extra' as the names of further tensors")
        tensors = {name: t for name, t in stored.artifact.tensors.items() if name not in extra}
        try:
            shapes = _shapes(stored.vlm, choice)
        except AttributeError as error:
            raise stored.error(f"changes a part that {stored.vlm.name!r} lacks") from error
        for name in sorted(shapes.keys() | tensors.keys()):
            if name not in shapes:
                raise stored.error(f"holds {name!r}, which is no part of what it changes")
            if name not in tensors or tensors[name].shape != shapes[name]:
                sizes = " x ".join(map(str, shapes[name]))
                raise stored.error(f"does not hold {name!r} as {sizes} numbers")
            if float32(tensors[name]) is None:
                raise stored.error(f"does not hold {name!r} as finite numbers")
        _refuse_zeros(stored, choice, tensors)
        return cls(choice, tensors)


def _refuse_zeros(stored: Stored, choice: Choice, tensors: Mapping[str, Tensor]) -> None:
    """Refuse zeros that no training leaves: all adapters off, or a weight that was wiped out."""
    whole = ((name, stored.vlm.model.get_parameter(name)) for name in choice.whole)
    wiped = (name for name, base in whole if bool(base.any()) and not bool(tensors[name].any()))
    if (name := next(wiped, None)) is not None:
        raise stored.error(f"holds {name!r} as zeros")
    pairs = [(tensors[f"{n}.lora_A.weight"], tensors[f"{n}.lora_B.weight"]) for n in choice.lora]
    if pairs and not any(bool(a.any()) and bool(b.any()) for a, b in pairs):
        raise stored.error("holds adapters of zeros, which would change nothing")
    if not pairs and not choice.whole:
        raise stored.error("changes no weights")


def _shapes(vlm: VLM, choice: Choice) -> dict[str, tuple[int, ...]]:
    """Name of every tensor that the choice needs to its shape on this model."""
    found: dict[str, tuple[int, ...]] = {}
    for name in choice.lora:
        module = vlm.model.get_submodule(name)
        found[f"{name}.lora_A.weight"] = (choice.rank, int(module.in_features))
        found[f"{name}.lora_B.weight"] = (int(module.out_features), choice.rank)
    for name in choice.whole:
        found[name] = tuple(vlm.model.get_parameter(name).shape)
    return found


@contextmanager
def tuned(vlm: VLM, weights: Weights) -> Iterator[Installed]:
    """Inside, the model has these weights.

    Raises:
        ModelError: the model already has an adapter.
    """
    with installed(vlm, weights.choice) as result:
        result.load(weights.tensors)
        yield result
