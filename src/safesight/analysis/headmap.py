"""Which attention heads carry safety? Silence each in turn and measure how far states rotate.

For each layer l and head h, the head's output is set to zero before the output projection. M and
M_lh are the final last-token states of a set of prompts before and after that (n x d, one row per
prompt). With u and u_lh their leading left singular vectors,

    phi_lh = arccos |<u, u_lh>|,   importance_lh = phi_lh(safety) - phi_lh(utility)

The left vector and the difference between a safety and a utility set follow a re-implementation
of SASA (Wang et al., ACM MM 2025, arXiv 2507.21637) and the head attribution of Zhou et al.
(2024, arXiv 2410.13708), which scales a head's queries instead of zeroing its output. Neither
centres M, so the mean state dominates u; the centred angle is reported as well.

Each head costs one prefill of both sets. Rows are appended to a CSV file as they are measured,
and an interrupted run resumes from it.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from safesight.activations import leading_angle, silence_head
from safesight.analysis.results import HeadMap
from safesight.analysis.states import states_before_answer
from safesight.errors import InputError, StorageError, reason_of
from safesight.types import pixels_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from safesight.models import VLM
    from safesight.types import Sample

__all__ = ["head_count", "head_map"]

_COLUMNS = ("layer", "head", "safety", "utility", "safety_centred", "utility_centred")

Angles = tuple[float, float, float, float]
"""The last four columns."""
Done = dict[tuple[int, int], Angles]


def head_count(vlm: VLM) -> int:
    """The number of heads that `head_map` silences, one at a time."""
    return len(_heads(vlm))


def head_map(
    vlm: VLM,
    safety: Sequence[Sample],
    utility: Sequence[Sample],
    *,
    batch_size: int = 16,
    file: Path | None = None,
    step: Callable[[], None] = lambda: None,
) -> HeadMap:
    """Silence every head in turn and measure both sets.

    Args:
        vlm: The model; it is left unchanged.
        safety: Harmful requests.
        utility: The same number of harmless questions.
        batch_size: Maximum prompts per prefill.
        file: Where finished heads are stored; heads already in it are not measured again. It
            knows the weights and the prompts, but no defense that is attached.
        step: Called after each head, whether measured now or before.

    Raises:
        InputError: the sets differ in size, or hold fewer than two prompts.
        ModelError: the heads of this architecture cannot be separated.
        StorageError: the file belongs to other prompts or another model, or is unusable.
    """
    if len(safety) != len(utility) or len(safety) < 2:
        raise InputError(
            f"Both sets of prompts must have the same size, at least 2, but have {len(safety)} "
            f"and {len(utility)}."
        )
    measure = _Measure(vlm, (safety, utility), batch_size)
    heads = _heads(vlm)
    kept = _Kept(file, _identity(vlm, safety, utility))
    done = kept.read()
    before: tuple[Tensor, Tensor] | None = None
    for layer, head in heads:
        if (layer, head) not in done:
            before = before or measure.final_states()
            done[layer, head] = measure.angles(before, layer, head)
            kept.add(layer, head, done[layer, head])
        step()
    return _table(vlm.num_layers, done, heads, len(safety))


def _heads(vlm: VLM) -> list[tuple[int, int]]:
    return [
        (layer, head)
        for layer in range(vlm.num_layers)
        if vlm.attention_out(layer) is not None
        for head in range(vlm.num_heads)
    ]


def _table(layers: int, done: Done, heads: Sequence[tuple[int, int]], n: int) -> HeadMap:
    def column(index: int) -> list[list[float]]:
        return [
            [done[place][index] for place in heads if place[0] == layer] for layer in range(layers)
        ]

    return HeadMap(
        safety=column(0),
        utility=column(1),
        safety_centred=column(2),
        utility_centred=column(3),
        n=n,
    )


@dataclass(frozen=True)
class _Measure:
    vlm: VLM
    sets: tuple[Sequence[Sample], Sequence[Sample]]
    batch_size: int

    def final_states(self) -> tuple[Tensor, Tensor]:
        """The last block's states for both sets, n x d each."""
        last = [self.vlm.num_layers - 1]
        safety, utility = (
            states_before_answer(self.vlm, samples, layers=last, batch_size=self.batch_size)[:, 0]
            for samples in self.sets
        )
        return safety, utility

    def angles(self, before: tuple[Tensor, Tensor], layer: int, head: int) -> Angles:
        projection = self.vlm.attention_out(layer)
        assert projection is not None
        with silence_head(projection, head, self.vlm.num_heads):
            after = self.final_states()
        pairs = list(zip(before, after, strict=True))
        safety, utility = (leading_angle(*pair) for pair in pairs)
        centred = (leading_angle(*pair, centred=True) for pair in pairs)
        return (safety, utility, *centred)  # type: ignore[return-value]


def _identity(vlm: VLM, *sets: Sequence[Sample]) -> str:
    """Hash of the model and the prompts."""
    asked = [[_asked(sample) for sample in samples] for samples in sets]
    return hashlib.sha256(json.dumps([vlm.identity, asked]).encode()).hexdigest()[:16]


def _asked(sample: Sample) -> list[Any]:
    """The texts and pictures of a sample."""
    pixels = [hashlib.sha256(pixels_of(render())).hexdigest() for render in sample.pictures]
    return [sample.id, sample.question, sample.system, list(sample.turns), sample.prefill, pixels]


@dataclass(frozen=True)
class _Kept:
    """Finished heads in a CSV file whose first line names the model and the prompts."""

    path: Path | None
    identity: str

    def read(self) -> Done:
        """The finished heads; creates the file if there is none.

        Raises:
            StorageError: it belongs to another run, is damaged, or cannot be written.
        """
        if self.path is None:
            return {}
        try:
            text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        except (OSError, UnicodeDecodeError) as error:
            raise StorageError(
                f"{self.path} cannot be read as a file of heads ({reason_of(error)}). "
                "Choose another output."
            ) from error
        # A line cut short by an interruption is measured again.
        whole = text[: text.rfind("\n") + 1].splitlines()
        heading = [f"# {self.identity}", ",".join(_COLUMNS)]
        if whole and whole[: len(heading)] != heading:
            raise StorageError(
                f"{self.path} holds heads of another model or other prompts. "
                "Delete it, or choose another output."
            )
        self._write(whole or heading, "w")
        return dict(self._rows(whole[1:]))

    def _rows(self, lines: Sequence[str]) -> Iterator[tuple[tuple[int, int], Angles]]:
        try:
            for row in csv.DictReader(lines):
                values = [float(row[name]) for name in _COLUMNS[2:]]
                place = int(row["layer"]), int(row["head"])
                yield place, (values[0], values[1], values[2], values[3])
        except (TypeError, ValueError, KeyError) as error:
            raise StorageError(
                f"{self.path} is damaged ({error}). Delete it to measure all heads again."
            ) from error

    def add(self, layer: int, head: int, angles: Angles) -> None:
        """Append one head."""
        if self.path is not None:
            self._write([",".join(map(repr, (layer, head, *angles)))], "a")

    def _write(self, lines: Sequence[str], mode: str) -> None:
        assert self.path is not None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open(mode, encoding="utf-8") as file:
                file.write("".join(f"{line}\n" for line in lines))
        except OSError as error:
            raise StorageError(
                f"{self.path} could not be written ({error.strerror or error}). "
                "Choose a place you can write to, with free space."
            ) from error
