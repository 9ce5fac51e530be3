"""Which attention heads carry safety? Each one silenced in turn, and how far states turn.

For each layer l and head h the head's output is set to zero before the output projection,
and the final last-token states of a set of prompts are read, M without and M_lh with the
head silenced (n x d, one row a prompt). With u and u_lh their leading left singular vectors,

    phi_lh = arccos |<u, u_lh>|,   importance_lh = phi_lh(safety) - phi_lh(utility)

The left vector and the difference of a safety and a utility set follow a re-implementation
of SASA (Wang et al., ACM MM 2025, arXiv 2507.21637) and the head attribution of Zhou et al.
(2024, arXiv 2410.13708), which scales a head's queries instead of zeroing its output. As
these do not centre M, u is dominated by the mean state; the centred angle stands beside it.

It costs one prefill of both sets for every head: rows are kept in a CSV file as they come,
and a run that was stopped goes on from there.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from safesight.activations import leading_angle, silence_head
from safesight.analysis.results import HeadMap
from safesight.analysis.states import states_before_answer
from safesight.errors import InputError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from safesight.models import VLM
    from safesight.types import Sample

__all__ = ["head_count", "head_map"]

_COLUMNS = ("layer", "head", "safety", "utility", "safety_centred", "utility_centred")

Angles = tuple[float, float, float, float]
"""As the last four columns."""
Done = dict[tuple[int, int], Angles]


def head_count(vlm: VLM) -> int:
    """How many heads `head_map` silences, one after another."""
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
        vlm: The model; it is as before afterwards.
        safety: Harmful requests.
        utility: As many harmless questions.
        batch_size: Most prompts in one prefill.
        file: Where finished heads are kept, and read from if it is there.
        step: Called after each head, finished earlier or now.

    Raises:
        InputError: the sets differ in size, or hold fewer than two prompts.
        ModelError: the heads of this architecture cannot be told apart.
        StorageError: the file is of other prompts or of another model, or cannot be used.
    """
    if len(safety) != len(utility) or len(safety) < 2:
        raise InputError(
            f"The two sets of prompts need the same size, at least 2, but have {len(safety)} "
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
        """The last block's states of both sets, n x d each."""
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
    """Hash of the model and of what is asked."""
    asked = [[[sample.id, sample.question] for sample in samples] for samples in sets]
    return hashlib.sha256(json.dumps([vlm.identity, asked]).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class _Kept:
    """Finished heads in a CSV file whose first line names the model and the prompts."""

    path: Path | None
    identity: str

    def read(self) -> Done:
        """What is there; the file is begun if it is not.

        Raises:
            StorageError: it is of another run, damaged, or cannot be written.
        """
        if self.path is None:
            return {}
        text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        # A line that was cut when the run was stopped is measured again.
        whole = text[: text.rfind("\n") + 1].splitlines()
        heading = [f"# {self.identity}", ",".join(_COLUMNS)]
        if whole and whole[: len(heading)] != heading:
            raise StorageError(
                f"{self.path} holds heads of another model or of other prompts. "
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
        """Keep one head."""
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
                "Choose a place you may write to, with free space."
            ) from error
