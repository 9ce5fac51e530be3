"""RAI's risk maps of some pictures of a run, for the report.

A report is made from a folder, without a model. So the maps are drawn while the model is loaded,
after an evaluation that includes RAI, and stored next to its logs in one file.
`analysis.risk_map` makes a map.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, RootModel

from safesight.errors import InputError
from safesight.files import write_text
from safesight.records import Record, read_record
from safesight.report.pictures import picture_size, to_data_uri
from safesight.types import Label

if TYPE_CHECKING:
    from safesight.analysis.risk_map import RiskMap
    from safesight.defenses import Artifact
    from safesight.models import VLM
    from safesight.types import Sample

__all__ = ["RISK_MAPS", "RiskPicture", "draw_risk", "read_risk", "write_risk"]

RISK_MAPS = "risk_maps.json"


def _drawable(uri: str) -> str:
    picture_size(uri)
    return uri


Picture = Annotated[str, AfterValidator(_drawable)]
"""A picture as a data URI."""


class RiskPicture(Record):
    """One picture and its risk map."""

    task: str
    sample_id: str
    label: Label
    picture: Picture
    """The picture as the model sees it."""
    heat: Picture
    """The same with the map over it."""
    moved: int
    """Number of visual tokens that pass the gate."""
    visual_tokens: int
    words: dict[str, float]
    """Words that tokens were pushed toward, with their largest cosine."""


class _Maps(RootModel[list[RiskPicture]]):
    pass


def draw_risk(
    vlm: VLM, artifact: Artifact, samples: Sequence[tuple[str, Sample]]
) -> list[RiskPicture]:
    """Risk maps of all pictures of some samples, but those that a model splits into tiles.

    Args:
        vlm: The model under test.
        artifact: A RAI artifact fitted on it.
        samples: Pairs of task and sample, each with at least one picture.
    """
    from safesight.analysis.risk_map import draw

    found = []
    for task, sample, seen in _seen(vlm, artifact, samples):
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


def _seen(
    vlm: VLM, artifact: Artifact, samples: Sequence[tuple[str, Sample]]
) -> Iterator[tuple[str, Sample, RiskMap]]:
    from safesight.analysis.risk_map import risk_maps

    for task, sample in samples:
        try:
            maps = risk_maps(vlm, sample, artifact)
        except InputError:  # several pictures that cannot be distinguished
            if len(sample.pictures) == 1:
                raise
            continue
        yield from ((task, sample, seen) for seen in maps if seen.grid is not None)


def write_risk(log_dir: Path, maps: Sequence[RiskPicture]) -> None:
    """Write the maps to the folder of the logs, atomically.

    Raises:
        StorageError: they cannot be written.
    """
    write_text(log_dir / RISK_MAPS, _Maps(list(maps)).model_dump_json(indent=1) + "\n")


def read_risk(log_dir: str | Path) -> list[RiskPicture]:
    """The maps in a folder; none if RAI was not evaluated.

    Raises:
        StorageError: the file is damaged.
    """
    found = read_record(Path(log_dir) / RISK_MAPS, _Maps, "Delete it to continue.")
    return [] if found is None else found.root
