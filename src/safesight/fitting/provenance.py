"""The origin of a fit, as recorded in every artifact's card: model, data, seed, versions."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from safesight.errors import ModelError

if TYPE_CHECKING:
    from safesight.fitting.data import FitData
    from safesight.models import VLM

__all__ = ["about_model", "check_untouched", "provenance"]

_PACKAGES = ("safesight", "torch", "transformers", "scikit-learn")


def about_model(vlm: VLM) -> dict[str, Any]:
    """The entry of a card that ties an artifact to its model."""
    return {
        "name": vlm.name,
        "family": vlm.family.name,
        "revision": vlm.revision,
        "identity": vlm.identity,
        "dtype": str(vlm.dtype).removeprefix("torch."),
    }


def provenance(vlm: VLM, data: FitData, seed: int, *, onward: bool = False) -> dict[str, Any]:
    """JSON values for an artifact's card.

    Args:
        vlm: The model the defense was fitted on; its identity ties the artifact to it.
        data: The data of the fit.
        seed: The seed of the fit.
        onward: Whether the fit may start from other weights than the model's own.

    Raises:
        ModelError: as for `check_untouched`.
    """
    check_untouched(vlm, onward=onward)
    return {
        "model": about_model(vlm),
        "data": {
            "hash": data.hash,
            "harmful": len(data.harmful),
            "benign": len(data.benign),
            "calibration_benign": len(data.calibration_benign),
            "pool_size": data.pool_size,
            "share": data.share,
            "tuning_source": dict(data.tuning_source),
            "tasks": list(data.tasks),
            "held_out": {fact: list(values) for fact, values in data.held_out.items()},
        },
        "seed": seed,
        "versions": {package: version(package) for package in _PACKAGES},
    }


def check_untouched(vlm: VLM, *, onward: bool = False) -> None:
    """Refuse a model whose states are not its own. A fit that takes long asks before it begins.

    Args:
        vlm: The model to fit on.
        onward: Whether the fit may start from other weights than the model's own.

    Raises:
        ModelError: dropout is on, or a defense has changed the weights.
    """
    if vlm.model.training:
        raise ModelError(
            f"{vlm.name!r} is in training mode, in which dropout changes what a fit reads. Call "
            "model.eval() and fit again."
        )
    if vlm.has_other_weights and not onward:
        raise ModelError(
            f"A defense changes the weights of {vlm.name!r}, so the fit is not of the model "
            "itself. Call unprotect(model) and fit again."
        )
