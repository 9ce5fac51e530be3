"""Damage artifacts at random; each must be refused in one sentence, or defend as before.

Every fitted defense has its turn: its artifact for the bundled model is copied and edited. JSON
gets values of every type in every place, tensors other dtypes, shapes and values, files are cut,
flipped, renamed, or replaced by links, pipes and folders. Half of the edits recompute the digest,
as someone who forges an artifact would. A forged artifact of possible values is another artifact,
so it may defend in another way; nothing else may.
"""

from __future__ import annotations

import copy
import json
import math
import os
import random
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from safesight import VLM, registry
from safesight.defenses import Artifact, FitData, load_defense, protection
from safesight.errors import ArtifactError, SafesightError
from safesight.fitting.bundled import bundled
from safesight.fitting.contents import digest_of, tensor_hash

__all__ = ["run"]

_CONFIG, _CARD, _TENSORS = "config.json", "card.json", "tensors.safetensors"
_LIMIT = 120
"""Seconds after which an edit counts as a hang."""
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 7, 10**9, 10**400, 0.5, -0.5, 1e-300, 1e9, 1e308, -1e308),
    *(math.nan, math.inf, "", "x", "sasa", "\ud800", "../../x", "y" * 5000),
    *([], [0], [-1], [0, 0], [None], [[]], ["x"], {}, {"a": 1}, {"a": {"b": [1]}}),
)
_CASTS = (
    *(torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2),
    *(torch.int64, torch.int8, torch.uint8, torch.bool, torch.complex64),
)


def run(n: int, seed: int, folder: Path) -> dict[str, Any]:
    """Try `n` edits, spread evenly over the fitted defenses.

    Args:
        n: How many edits to try.
        seed: The same seed tries the same edits.
        folder: Where to write the edited artifacts; created if needed.

    Returns:
        The counts "tried", "refused", "right" (accepted, and defends as the original does) and
        "forged" (accepted with a recomputed digest, and defends otherwise), the count by defense,
        and "faults": what went wrong, one line each.
    """
    vlm = VLM.load("testbed")
    plain = _answers(vlm)
    counts: Counter[str] = Counter()
    by_defense: Counter[str] = Counter()
    faults: list[str] = []
    originals = {name: _original(name, vlm, folder / "originals") for name in _fitted()}
    expected = {name: _tried(vlm, name, place) for name, place in originals.items()}
    for index in range(n):
        name = list(originals)[index % len(originals)]
        rng = random.Random(f"{seed}/{index}")
        edited = folder / "edited"
        shutil.rmtree(edited, ignore_errors=True)
        shutil.copytree(originals[name], edited)
        what, forged = _edit(edited, rng)
        outcome = _outcome(vlm, name, edited, expected[name], forged)
        counts[outcome if outcome in ("refused", "right", "forged") else "fault"] += 1
        by_defense[name] += 1
        if outcome not in ("refused", "right", "forged"):
            faults.append(f"{name}, edit {index}, {what}: {outcome}")
    if _answers(vlm) != plain:
        faults.append("The model is not as it was before.")
    return {
        "tried": n,
        **{kind: counts[kind] for kind in ("refused", "right", "forged")},
        "by_defense": dict(by_defense),
        "faults": faults,
    }


def _fitted() -> list[str]:
    return [n for n in registry.names("defense") if registry.load("defense", n).fitted]


def _original(name: str, vlm: VLM, folder: Path) -> Path:
    """The bundled artifact, or one of a single step where none is bundled."""
    try:
        artifact = bundled(name, vlm)
    except ArtifactError:
        rows = registry.load("dataset", "testbed")(12, seed=0)
        defense = load_defense(name, max_steps=1, warmup=0.0, batch_size=4, rank=2)
        artifact = defense.fit(vlm, FitData((), (), tuning=rows), progress=False)
    return artifact.save(folder / name)


def _answers(vlm: VLM) -> list[Any]:
    """Answers to a harmful and a benign request in text and in a picture, and the scores."""
    samples = [
        registry.load("benchmark", task)(1, seed=5)[0]
        for task in ("text_harm", "image_harm", "over_refusal", "vqa")
    ]
    said = vlm.answer([sample.messages() for sample in samples], max_new_tokens=8)
    handle = protection(vlm.model)
    last = handle.last if handle is not None else None
    decisions = [] if last is None else [d.scores.tolist() for d in last.decisions.values()]
    return [said, decisions]


def _tried(vlm: VLM, name: str, place: Path) -> list[Any]:
    with load_defense(name).apply(vlm, Artifact.load(place)):
        return _answers(vlm)


def _outcome(vlm: VLM, name: str, place: Path, expected: list[Any], forged: bool) -> str:
    """One of "refused", "right" and "forged", or what is wrong."""
    try:
        with _deadline():
            found = _tried(vlm, name, place)
    except SafesightError as error:
        if protection(vlm.model) is not None:
            return "refused, but something is attached"
        said = str(error)
        return "refused" if "\n" not in said and len(said) < 1000 else f"says {said[:200]!r}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]!r}"
    if found == expected:
        return "right"
    return "forged" if forged else "accepted, and defends otherwise"


@contextmanager
def _deadline() -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise TimeoutError(f"no end after {_LIMIT} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(_LIMIT)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _edit(folder: Path, rng: random.Random) -> tuple[str, bool]:
    """Edit the artifact in place; returns what was done and whether the digest is right again."""
    has_tensors = (folder / _TENSORS).exists()
    kinds: list[Callable[[Path, random.Random], str]] = [_json_value, _json_value, _bytes, _files]
    if has_tensors:
        kinds += [_tensor, _tensor]
    kind = rng.choice(kinds)
    what = kind(folder, rng)
    forge = kind in (_json_value, _tensor) and rng.random() < 0.5
    return (f"{what}, forged" if forge else what), forge and _forge(folder)


def _json_value(folder: Path, rng: random.Random) -> str:
    """Replace, remove or add one value, at any depth."""
    name = rng.choice([_CONFIG, _CONFIG, _CARD])
    root = {"": json.loads((folder / name).read_text(encoding="utf-8"))}
    places = list(_places(root))
    holder, key, path = rng.choice(places)
    do = rng.choice(("replace", "replace", "replace", "remove", "add"))
    value = copy.deepcopy(rng.choice(_VALUES))
    if do == "remove" and path:
        del holder[key]
    elif do == "add" and isinstance(holder[key], dict):
        holder[key]["unknown"] = value
    elif do == "add" and isinstance(holder[key], list):
        holder[key].append(value)
    else:
        do, holder[key] = "replace", value
    (folder / name).write_text(json.dumps(root[""]), encoding="utf-8")
    return f"{do} {name}{path} {'' if do == 'remove' else repr(value)[:40]}"


def _places(value: Any, path: str = "") -> Iterator[tuple[Any, Any, str]]:
    """Every place in a JSON value: what holds it, its key or index, and its path."""
    keys = value.keys() if isinstance(value, dict) else range(len(value))
    for key in list(keys):
        here = f"{path}/{key}" if key != "" else ""
        yield value, key, here
        if isinstance(value[key], dict | list):
            yield from _places(value[key], here)


def _tensor(folder: Path, rng: random.Random) -> str:
    """Another dtype, shape or value, a tensor more or less."""
    tensors = load_file(folder / _TENSORS)
    name = rng.choice(sorted(tensors))
    old = tensors[name]
    changes: dict[str, Callable[[], torch.Tensor]] = {
        **{str(dtype): lambda dtype=dtype: old.to(dtype) for dtype in _CASTS},
        "nan": lambda: torch.full_like(old, math.nan),
        "one inf": lambda: torch.cat([torch.tensor([math.inf]), old.flatten()[1:]]).view_as(old),
        "zeros": lambda: torch.zeros_like(old),
        "huge": lambda: torch.full_like(old, 3e38),
        "tiny": lambda: old * 1e-30,
        "negative": lambda: -old,
        "empty": lambda: old[:0],
        "shorter": lambda: old[:-1],
        "flat": lambda: old.flatten()[:1],
        "deeper": lambda: old[None],
        "transposed": lambda: old.T,
    }
    how = rng.choice([*changes, "missing", "renamed", "more"])
    if how in changes:
        tensors[name] = changes[how]().contiguous().clone()
    elif how == "more":
        tensors["more"] = torch.ones(3)
    else:
        del tensors[name]
        if how == "renamed":
            tensors[f"{name}_"] = old
    save_file(tensors, folder / _TENSORS)
    return f"{name} {how}"


def _bytes(folder: Path, rng: random.Random) -> str:
    """Cut a file, flip a bit of it, or fill it with something else."""
    path = rng.choice(sorted(folder.iterdir()))
    content = bytearray(path.read_bytes())
    how = rng.choice(("cut", "flip", "flip", "junk"))
    if how == "cut":
        content = content[: rng.randrange(len(content))]
    elif how == "flip":
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    else:
        junk = (b"", b"\0" * 9, b"[" * 200_000, b"\x80\x04.", b"null", b"{}", b"\xef\xbb\xbf{}")
        content = bytearray(rng.choice(junk))
    path.write_bytes(content)
    return f"{how} {path.name}"


def _files(folder: Path, rng: random.Random) -> str:
    """A file that is missing, renamed, extra, or no file."""
    path = rng.choice(sorted(folder.iterdir()))
    other = rng.choice(sorted(folder.iterdir()))
    kept = path.read_bytes()
    makers: dict[str, Callable[[], object]] = {
        "missing": lambda: None,
        "renamed": lambda: (folder / f"{path.name}.old").write_bytes(kept),
        "a pipe": lambda: os.mkfifo(path),
        "a folder": lambda: path.mkdir(),
        "a link to nothing": lambda: path.symlink_to(folder / "nothing"),
        "a link to itself": lambda: path.symlink_to(path),
        "a link to an endless file": lambda: path.symlink_to("/dev/zero"),
        "a link to a folder": lambda: path.symlink_to("/"),
        "the text of another": lambda: shutil.copy(other, path),
    }
    how = rng.choice([*makers, "extra", "a link to itself elsewhere"])
    if how == "extra":
        (folder / "extra.pkl").write_bytes(b"\x80\x04.")
    elif how == "a link to itself elsewhere":
        path.rename(folder / "elsewhere")
        path.symlink_to(folder / "elsewhere")
    elif not (how == "the text of another" and other == path):
        path.unlink()
        makers[how]()
    return f"{path.name} {how}"


def _forge(folder: Path) -> bool:
    """Recompute the hashes and the digest; False if the content has none."""
    try:
        config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        card = json.loads((folder / _CARD).read_text(encoding="utf-8"))
        if (folder / _TENSORS).exists() and config.get("tensors"):
            found = load_file(folder / _TENSORS)
            config["tensors"] = {name: tensor_hash(value) for name, value in sorted(found.items())}
        config["digest"] = digest_of({k: v for k, v in config.items() if k != "digest"}, card)
    except (AttributeError, TypeError, ValueError):
        return False
    (folder / _CONFIG).write_text(json.dumps(config), encoding="utf-8")
    return True
