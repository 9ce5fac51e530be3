"""Artifacts bundled with the package: `artifacts/<model>/<defense>/`.

This module only finds them; `Artifact` reads them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from safesight.errors import ArtifactError
from safesight.fitting.artifact import Artifact, how_to_fit

if TYPE_CHECKING:
    from safesight.models import VLM

__all__ = ["FOLDER", "bundled", "is_bundled", "place_in"]

FOLDER = Path(__file__).parent / "artifacts"


def place_in(model: str, defense: str) -> Path:
    """Where the artifact of a defense is, if it comes with the package.

    Args:
        model: A registered name.
        defense: A registered name.

    Example:
        >>> place_in("testbed", "sasa").parts[-3:]
        ('artifacts', 'testbed', 'sasa')
    """
    return FOLDER / model / defense


def is_bundled(defense: str, model: str) -> bool:
    """Whether an artifact of a defense comes with the package for a model of this name.

    Example:
        >>> is_bundled("sasa", "testbed"), is_bundled("sasa", "org/model")
        (True, False)
    """
    return (place_in(model, defense) / "config.json").is_file()


def bundled(defense: str, vlm: VLM, folder: Path | None = None) -> Artifact:
    """The artifact of a defense for exactly this model.

    Args:
        defense: The defense's name.
        vlm: The model under test.
        folder: Where to look, a folder per model; None for the package's own.

    Raises:
        ArtifactError: there is none for this model.
    """
    for place in sorted((folder or FOLDER).glob(f"*/{defense}")):
        artifact = Artifact.load(place)
        if artifact.identity == vlm.identity:
            return artifact
    raise ArtifactError(
        f"{defense} has no bundled artifact for {vlm.name!r} as it was loaded. "
        f"{how_to_fit(defense, vlm)}, and pass the folder."
    )
