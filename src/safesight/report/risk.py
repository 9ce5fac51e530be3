"""Where RAI sees risk in some pictures of a run, for the report.

A report is made from a folder, without a model. So the maps are drawn when the model is at hand,
after an evaluation in which RAI took part, and stand beside its logs in one file. How a map is
made is `analysis.risk_map`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import RootModel

from safesight.files import write_text
from safesight.records import Record, read_record
from safesight.report.pictures import to_data_uri
from safesight.types import Label

if TYPE_CHECKING:
    from safesight.defenses import Artifact
    from safesight.models import VLM
    from safesight.types import Sample

__all__ = ["RISK_MAPS", "RiskPicture", "draw_risk", "read_risk", "write_risk"]

RISK_MAPS = "risk_maps.json"


class RiskPicture(Record):
    """One picture, and what RAI sees in it."""

    task: str
    sample_id: str
    label: Label
    picture: str
    """As the model sees it, a data URI."""
    heat: str
    """The map over it, a data URI."""
    moved: int
    """Visual tokens that pass the gate."""
    visual_tokens: int
    words: dict[str, float]
    """Words that tokens were moved towards, with their largest cosine."""


class _Maps(RootModel[list[RiskPicture]]):
    pass


def draw_risk(
    vlm: VLM, artifact: Artifact, samples: Sequence[tuple[str, Sample]]
) -> list[RiskPicture]:
    """Maps of some samples; none where the model cuts pictures into tiles.

    Args:
        vlm: The model under test.
        artifact: Of a RAI fit on it.
        samples: Task and sample, each with a picture.
    """
    from safesight.analysis.risk_map import draw, risk_map

    found = []
    for task, sample in samples:
        seen = risk_map(vlm, sample, artifact)
        if seen.grid is None:
            return []
        facts = seen.summary()
        found.append(
            RiskPicture(
                task=task,
                sample_id=sample.id,
                label=sample.label,
                picture=to_data_uri(seen.picture),
                heat=to_data_uri(draw(seen)),
                moved=facts["moved"],
                visual_tokens=facts["visual_tokens"],
                words=facts["words"],
            )
        )
    return found


def write_risk(log_dir: Path, maps: Sequence[RiskPicture]) -> None:
    """Write the maps beside the logs, as a whole or not at all.

    Raises:
        StorageError: they cannot be written.
    """
    write_text(log_dir / RISK_MAPS, _Maps(list(maps)).model_dump_json(indent=1) + "\n")


def read_risk(log_dir: str | Path) -> list[RiskPicture]:
    """The maps of a folder; none if RAI took no part.

    Raises:
        StorageError: the file is damaged.
    """
    found = read_record(Path(log_dir) / RISK_MAPS, _Maps, "Delete it to go on.")
    return [] if found is None else found.root
