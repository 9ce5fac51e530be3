"""What every fit writes beside its numbers: on which model, which data, with what versions."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safesight.defenses.data import FitData
    from safesight.models import VLM

__all__ = ["fit_card"]

_PACKAGES = ("safesight", "torch", "transformers", "scikit-learn")


def fit_card(vlm: VLM, data: FitData, seed: int, **more: Any) -> dict[str, Any]:
    """The card of an artifact: model, data, seed and versions; JSON values only.

    Args:
        vlm: The model it was fitted on, and belongs to.
        data: What it was fitted on.
        seed: Of the fit.
        more: What this kind of fit has to say.
    """
    return {
        "model": {
            "name": vlm.name,
            "revision": vlm.revision,
            "identity": vlm.identity,
            "dtype": str(vlm.dtype).removeprefix("torch."),
        },
        "data": {
            "hash": data.hash,
            "harmful": len(data.harmful),
            "benign": len(data.benign),
            "calibration_benign": len(data.calibration_benign),
            "pool_size": data.pool_size,
            "share": data.share,
        },
        "seed": seed,
        "versions": {package: version(package) for package in _PACKAGES},
        **more,
    }
