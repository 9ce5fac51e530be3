"""A published benchmark as a task: found, read, checked for completeness, and drawn from.

The folder that the environment variable `SAFESIGHT_DATA` names may hold a folder per benchmark, as
its authors lay it out or as a copy of its hub repository. What is not there is downloaded from the
hub if it is on the hub. Before anything is asked, the hashes, the ids, the number of prompts and
the presence of every picture are checked.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safesight.benchmarks.folder import Folder, Missing, hash_of
from safesight.benchmarks.hub import downloaded
from safesight.benchmarks.spec import Spec
from safesight.errors import InputError
from safesight.types import Sample, group_of

__all__ = ["DATA", "Benchmark"]

DATA = "SAFESIGHT_DATA"
"""The environment variable that names the folder of data sets."""

_SHOWN = 5
"""Pictures or categories that an error message names."""
_TABLES = (".csv", ".tsv", ".json", ".jsonl", ".parquet", ".txt")
_MOST_HASHES = 50
"""Hashes that a log holds one by one."""


@dataclass(frozen=True)
class Benchmark:
    """Called like any benchmark, with a number of samples and a seed."""

    spec: Spec
    read: Callable[[Folder], Iterable[Sample]] = field(repr=False)
    """Yields a sample for every prompt in a folder."""

    @property
    def judge(self) -> str:
        """The judge of its answers if none is named; see `safesight.judges.scope.judge_for`."""
        return self.spec.judge

    def __call__(
        self,
        n: int | None = None,
        *,
        seed: int = 0,
        split: str | None = None,
        folder: str | Path | None = None,
        complete: bool = True,
    ) -> list[Sample]:
        """The samples, in the order of the files.

        Args:
            n: At most so many; samples of a group are drawn together. None for all.
            seed: Seed of the draw.
            split: There is one, so only its name is taken.
            folder: Where the files are; None for the place that `SAFESIGHT_DATA` names, or the hub.
            complete: Refuse files that differ from the published ones. Without it, samples without
                their picture are left out.

        Raises:
            InputError: the benchmark is not there, cannot be read, or is not complete.
        """
        if split not in (None, self.spec.split):
            raise InputError(
                f"{self.spec.title} has no split {split!r}: it is for testing, and comes with "
                f"{self.spec.split} alone. Fit on other data."
            )
        found = self.found(folder)
        if complete:
            _check_hashes(self.spec, found)
        samples = list(self.read(found))
        _check_ids(self.spec, samples)
        if complete:
            _check_counts(self.spec, found, samples)
            _check_pictures(self.spec, found, samples)
        return _drawn([sample for sample in samples if not _missing(sample)], n, seed)

    def found(self, folder: str | Path | None = None) -> Folder:
        """The folder with the files, downloaded if need be.

        Raises:
            InputError: it is nowhere.
        """
        if folder is not None:
            return self._local(Path(folder).expanduser())
        data = os.environ.get(DATA)
        if data and (Path(data).expanduser() / self.spec.folder).is_dir():
            return self._local(Path(data).expanduser() / self.spec.folder)
        if not self.spec.hub:
            raise InputError(
                f"{self.spec.title} is not here. To get it, {self.spec.get}; the files belong in "
                f"the folder {self.spec.folder} of the folder that {DATA} names."
            )
        instead = f"put its files in the folder {self.spec.folder} of the one that {DATA} names"
        path = downloaded(self.spec.hub, self.spec.revision, self.spec.files, instead=instead)
        return Folder(path, self.spec.title)

    def _local(self, path: Path) -> Folder:
        if not path.is_dir():
            raise InputError(
                f"There is no folder {path}. To get {self.spec.title}, {self.spec.get}."
            )
        return Folder(path, self.spec.title)

    def provenance(self) -> dict[str, Any]:
        """What was read, for the log of a run: the folder, the revision and the hash of each table.

        Raises:
            InputError: it is nowhere.
        """
        found = self.found()
        return {
            "version": self.spec.version,
            "revision": self.spec.revision or _snapshot(found.path),
            "sha256": _hashes(found),
        }


def _hashes(found: Folder) -> dict[str, str]:
    """The hash of each file with prompts; of many, one over all their names and hashes."""
    hashes = {
        path.relative_to(found.path).as_posix(): hash_of(path)
        for depth in ("*", "*/*", "*/*/*", "*/*/*/*/*")
        for path in sorted(found.path.glob(depth))
        if path.suffix in _TABLES and path.is_file()
    }
    if len(hashes) <= _MOST_HASHES:
        return hashes
    lines = "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(hashes.items()))
    return {f"all {len(hashes):,} files": hashlib.sha256(lines.encode()).hexdigest()}


def _snapshot(folder: Path) -> str | None:
    """The revision of a folder in the hub's cache, which is named after it."""
    return folder.name if folder.parent.name == "snapshots" else None


def _missing(sample: Sample) -> list[str]:
    return [picture.name for picture in sample.pictures if isinstance(picture, Missing)]


def _check_hashes(spec: Spec, found: Folder) -> None:
    for name, wanted in spec.sha256.items():
        path = found.within(name)  # None in another layout; what is missing is found on reading
        if path is not None and (sha256 := hash_of(path)) != wanted:
            raise InputError(
                f"{path} is not the published file: its SHA-256 begins with {sha256[:12]}, and "
                f"that of {spec.title} {spec.version} with {wanted[:12]}. Download it again."
            )


def _check_ids(spec: Spec, samples: list[Sample]) -> None:
    twice = [id for id, count in Counter(sample.id for sample in samples).items() if count > 1]
    if twice:
        raise InputError(
            f"{spec.title} has more than one prompt with each of these ids: {_listed(twice)}. "
            "Download it again."
        )


def _check_counts(spec: Spec, found: Folder, samples: list[Sample]) -> None:
    counts = Counter(str(sample.facts.get(spec.counted)) for sample in samples)
    wrong = [
        f"{name} {counts[name]} of {spec.counts.get(name, 0)}"
        for name in dict.fromkeys([*spec.counts, *counts])
        if counts[name] != spec.counts.get(name, 0)
    ]
    if wrong:
        raise InputError(
            f"{spec.title} in {found.path} is not complete: it has {len(samples):,} prompts, and "
            f"{spec.size:,} are published ({_listed(wrong)}). Download it again."
        )


def _check_pictures(spec: Spec, found: Folder, samples: list[Sample]) -> None:
    missing = list(dict.fromkeys(name for sample in samples for name in _missing(sample)))
    if missing:
        count = "1 picture" if len(missing) == 1 else f"{len(missing):,} pictures"
        raise InputError(
            f"{spec.title} in {found.path} lacks {count}: {_listed(missing)}. To get them, "
            f"{spec.get}."
        )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _drawn(samples: list[Sample], n: int | None, seed: int) -> list[Sample]:
    """At most n of the samples, whole groups of them, in their old order.

    If no group is so small, part of the first one.
    """
    if n is None or n >= len(samples):
        return samples
    together: Mapping[Hashable, list[int]] = defaultdict(list)
    for index, sample in enumerate(samples):
        together[group_of(sample.facts, ("alone", index))].append(index)
    groups = list(together.values())
    random.Random(f"draw/{seed}").shuffle(groups)
    chosen: list[int] = []
    for group in groups:
        chosen += group if len(chosen) + len(group) <= n else ()
    return [samples[index] for index in sorted(chosen or groups[0][:n])]
