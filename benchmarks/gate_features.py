"""The features that gates read of some prompts, computed once and kept on disk.

Not a benchmark. One prefill per prompt gives the last prompt token's state after every block, and
reruns of the last blocks give SASA's feature for every pair of blocks. Any number of gates can
then be fitted and tested without running the model again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from results_file import code_hash
from safetensors.torch import load_file, save_file
from torch import Tensor

from safesight import VLM
from safesight.activations import resid_post
from safesight.defenses.sasa import SASAConfig, projected
from safesight.generation.calls import run_prefill
from safesight.generation.prefill import Prefill
from safesight.types import Sample

__all__ = ["all_blocks", "all_pairs", "batch_key", "features_of"]

BATCH = 48
_COMPARED = 10


def all_blocks(vlm: VLM) -> list[str]:
    """The names of the states after each block: "block 5"."""
    return [f"block {layer}" for layer in range(vlm.num_layers)]


def all_pairs(vlm: VLM) -> list[str]:
    """The names of SASA's features, one per pair of blocks: "pair 3 4".

    Each costs a rerun, so of a deep model only every k-th block counts: about ten of them.
    """
    layers = range(0, vlm.num_layers, max(1, round(vlm.num_layers / _COMPARED)))
    return [f"pair {s} {f}" for s in layers for f in layers if s < f]


def features_of(
    vlm: VLM, samples: Sequence[Sample], names: Sequence[str], folder: Path
) -> dict[str, Tensor]:
    """Every named feature of every sample, n x d.

    Args:
        vlm: The model under test.
        samples: Prompts.
        names: "block L", "pair S F", or "swapped S F" for the other projection.
        folder: Where batches are kept; a stopped run resumes from them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts: list[dict[str, Tensor]] = []
    for start in range(0, len(samples), BATCH):
        batch = samples[start : start + BATCH]
        path = folder / f"{batch_key(vlm, batch, names)}.safetensors"
        if not path.is_file():
            partial = path.with_suffix(".partial")
            save_file(_read(vlm, batch, names), partial)
            partial.rename(path)
            print(f"features: {start + len(batch)} of {len(samples)}", flush=True)
        parts.append(load_file(path))
    return {name: torch.cat([part[name] for part in parts]) for name in names}


def batch_key(vlm: VLM, batch: Sequence[Sample], names: Sequence[str]) -> str:
    """What identifies a batch on disk: the model, its prompts, what is read, and by which code.

    The code draws the pictures, too.
    """
    asked = [(each.id, each.question) for each in batch]
    what = [vlm.identity, asked, list(names), code_hash()]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:24]


def _read(vlm: VLM, batch: Sequence[Sample], names: Sequence[str]) -> dict[str, Tensor]:
    layers = [(name, [int(word) for word in name.split()[1:]]) for name in names]
    sites = sorted({resid_post(layer) for _, used in layers for layer in used})
    first = min((used[0] + 1 for _, used in layers if len(used) == 2), default=None)
    inputs = vlm.encode([sample.messages() for sample in batch])
    _, prefill = run_prefill(vlm, dict(inputs), sites, first)
    with torch.no_grad():
        return {name: _feature(prefill, name, used) for name, used in layers}


def _feature(prefill: Prefill, name: str, layers: list[int]) -> Tensor:
    states = [prefill.states[resid_post(layer)] for layer in layers]
    if len(states) == 1:
        return prefill.at_last(states[0]).contiguous()
    direction = "f_on_s" if name.startswith("swapped") else "s_on_f"
    hidden = projected(states[0], states[1], direction, SASAConfig().eps)
    return prefill.at_last(prefill.replay(hidden, start=layers[0] + 1)).contiguous()
