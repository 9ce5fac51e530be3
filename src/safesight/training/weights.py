"""Choose the trained parameters of a model; install the trained weights and remove them.

Two ways, which can be combined: LoRA adapters on linear layers (by PEFT), and whole parameters.
Both are *installed* for the length of a `with` block: PEFT's layers wrap the linear layers, and
parameters point to other values. The originals are kept and put back, and nothing is ever merged
into them, so the model is restored bit for bit. Whole parameters are stored as they are after
training, not as differences, since w + (w' - w) is not w' in floating point.
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
    from safesight.fitting.stored import Stored
    from safesight.models import VLM
    from safesight.training.config import TuningConfig

__all__ = [
    "ADAPTER",
    "Choice",
    "Installed",
    "Weights",
    "choose",
    "installed",
    "projector_parameters",
    "tuned",
]

ADAPTER = "safesight"
"""The adapter's name inside PEFT's layers."""


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
                f"The {artifact.defense} artifact does not say which weights it changes. Fit it "
                "again."
            ) from error

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
    _refuse_fixed(vlm)
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
            if isinstance(module, nn.Linear):
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


def _within(vlm: VLM, *parts: nn.Module) -> set[str]:
    """Names of the parameters in these modules; a shared one is listed once."""
    inside = {id(parameter) for part in parts for parameter in part.parameters()}
    return {name for name, p in vlm.model.named_parameters() if id(p) in inside}


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
            f"{vlm.name!r} already has an adapter. Remove it, or merge it into the weights first."
        )


def _inject(vlm: VLM, choice: Choice) -> dict[str, tuple[nn.Module, str, Any]]:
    """Wrap linear layers in PEFT's; returns each one's parent, its name there, and the wrapper."""
    if not choice.lora:
        return {}
    need("peft", "train", "A model with LoRA adapters")
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
        warnings.simplefilter("ignore")  # about naming conventions on the hub
        inject_adapter_in_model(config, model, ADAPTER)
    found = {}
    for name in choice.lora:
        owner, _, child = name.rpartition(".")
        layer = model.get_submodule(name)
        layer.train(modes[name])
        # Base weights may be in half precision; adapters never are, not even on disk.
        for matrix in (layer.lora_A[ADAPTER], layer.lora_B[ADAPTER]):
            matrix.weight.data = matrix.weight.data.float()
        found[name] = (model.get_submodule(owner), child, layer)
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
        return cls(choice, tensors)


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
