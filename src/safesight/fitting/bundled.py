"""Artifacts bundled with the package: `artifacts/<defense>/`, and a folder in it for another model.

This module only finds them; `Artifact` reads them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from safesight.errors import ArtifactError
from safesight.fitting.artifact import Artifact, how_to_fit

if TYPE_CHECKING:
    from safesight.models import VLM

__all__ = ["FOLDER", "bundled", "is_bundled"]

FOLDER = Path(__file__).parent / "artifacts"


def is_bundled(defense: str, model: str) -> bool:
    """Whether an artifact of a defense comes with the package for a model of this name.

    Example:
        >>> is_bundled("sasa", "testbed"), is_bundled("sasa", "org/model")
        (True, False)
    """
    place = FOLDER / defense / ("" if model == "testbed" else model)
    return (place / "config.json").is_file()


def bundled(defense: str, vlm: VLM, folder: Path | None = None) -> Artifact:
    """The artifact of a defense for exactly this model.

    Args:
        defense: The defense's name.
        vlm: The model under test.
        folder: Where to look; None for the package's own folder. It may hold one artifact,
            or one folder per model.

    Raises:
        ArtifactError: there is none for this model.
    """
    home = (folder or FOLDER) / defense
    places = [home, *sorted(home.iterdir())] if home.is_dir() else []
    for place in places:
        if (place / "config.json").is_file():
            artifact = Artifact.load(place)
            if artifact.identity == vlm.identity:
                return artifact
    raise ArtifactError(
        f"{defense} has no bundled artifact for {vlm.name!r} as it was loaded. "
        f"{how_to_fit(defense, vlm)}, and pass the folder."
    )
