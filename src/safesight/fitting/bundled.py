"""Artifacts that travel with the package: `artifacts/<defense>/`, one folder for each model.

Finds them and nothing else; `Artifact` reads them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from safesight.errors import ArtifactError
from safesight.fitting.artifact import Artifact

if TYPE_CHECKING:
    from safesight.models import VLM

__all__ = ["FOLDER", "bundled"]

FOLDER = Path(__file__).parent / "artifacts"


def bundled(defense: str, vlm: VLM, folder: Path | None = None) -> Artifact:
    """The artifact of a defense for this very model.

    Args:
        defense: Its name.
        vlm: The model under test.
        folder: Where to look; None for the package's own folder. It may hold one artifact,
            or a folder for each model.

    Raises:
        ArtifactError: there is none, or only for other models.
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
        f"Fit one: safesight fit {defense} --model {vlm.name} -o FOLDER, and pass the folder."
    )
