"""RAI's measurements on a model: prototypes of the words, cosines of visual tokens, and tau.

`read_taps` runs unlabelled pictures through the original model and stores each visual token's
largest cosine with a prototype; `threshold` turns those into tau. The mathematics is in
`injection`, the settings in `config`, and the choice among several settings in `search`.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from safesight.activations import Site, capture, resid_post, resid_pre
from safesight.defenses.rai.injection import Injection, risk_scores
from safesight.defenses.rai.prototypes import mean_word, word_vectors
from safesight.errors import InputError
from safesight.generation.calls import run_prefill
from safesight.models.asking import by_batches, encode_asked
from safesight.types import Sample

if TYPE_CHECKING:
    from safesight.defenses.rai.config import RAIConfig
    from safesight.fitting.data import FitData
    from safesight.models import VLM

__all__ = [
    "Layer",
    "Tap",
    "pictures_of",
    "read_taps",
    "site_of",
    "threshold",
    "visual_states",
]

Layer = int | Literal["embed"]
"""The output of a block, counted from 0, or "embed": the input of block 0."""

_EDGE = 1e-6
"""More than the rounding error of a cosine in float32."""


@dataclass(frozen=True)
class Tap:
    """One place where RAI may act, with what was measured there."""

    layer: Layer
    prototypes: Tensor
    """K x d."""
    best: Tensor
    """The largest cosine of each visual token of the pool: M."""
    token_mean: Tensor | None = None
    word_mean: Tensor | None = None

    def injection(self, ratio: float, strength: float, config: RAIConfig) -> Injection:
        """The injection at this place that lets the given share of the pool's tokens pass."""
        return Injection(
            site_of(self.layer),
            self.prototypes,
            threshold(self.best, ratio) if config.tau is None else config.tau,
            strength,
            config.norm_matched,
            config.top_k,
            self.token_mean,
            self.word_mean,
        )


def site_of(layer: Layer) -> Site:
    """The site in the decoder that a layer setting refers to.

    Example:
        >>> site_of("embed"), site_of(3)
        (Site(layer=0, place='resid_pre'), Site(layer=3, place='resid_post'))
    """
    return resid_pre(0) if layer == "embed" else resid_post(layer)


def threshold(best: Tensor, ratio: float) -> float:
    """The Quantile_{1 - ratio} of the largest cosines: the share `ratio` of them is above it.

    It lies between two of them, so rounding has no influence.

    Example:
        >>> round(threshold(torch.tensor([0.1, 0.2, 0.3, 0.4]), 0.25), 2)
        0.35
    """
    ordered = best.sort(descending=True).values
    above = round(ratio * len(ordered))
    if above == 0:
        return float(ordered[0]) + _EDGE
    if above == len(ordered):
        return float(ordered[-1]) - _EDGE
    return float(ordered[above - 1 : above + 1].double().mean())


def pictures_of(data: FitData, count: int, seed: int) -> list[Sample]:
    """Up to `count` samples with a picture; labels are ignored.

    Raises:
        InputError: no sample has a picture.
    """
    pool = [each for each in (*data.harmful, *data.benign) if each.image is not None]
    if not pool:
        raise InputError(
            "RAI acts on pictures, but no sample of the fit has one. Add some that do."
        )
    return random.Random(seed).sample(pool, min(count, len(pool)))


def visual_states(vlm: VLM, batch: Sequence[Sample], sites: Iterable[Site]) -> dict[Site, Tensor]:
    """The states of all visual tokens of a batch: n x d at each site, in row order."""
    inputs = encode_asked(vlm, batch)
    with capture(vlm.layers, sites, tokens=vlm.image_mask(inputs)) as states:
        run_prefill(vlm, dict(inputs), [], None)
    return states


def read_taps(
    vlm: VLM,
    words: Sequence[str],
    layers: Sequence[Layer],
    pool: Sequence[Sample],
    config: RAIConfig,
    *,
    progress: bool,
) -> dict[Layer, Tap]:
    """Prototypes, means and cosines at every layer, from one prefill per picture (two if centered).

    Args:
        vlm: The model under test; it is not changed.
        words: K words.
        layers: Layers to measure.
        pool: Samples with pictures.
        config: Settings.
        progress: Show a progress bar.

    Raises:
        InputError: the tokenizer has no tokens for a word.
    """
    sites = {layer: site_of(layer) for layer in layers}
    vectors = {
        layer: word_vectors(vlm, words, config.prototypes, site) for layer, site in sites.items()
    }
    means: Mapping[Layer, tuple[Tensor | None, Tensor | None]] = dict.fromkeys(layers, (None, None))
    if config.centered:
        means = _means(vlm, sites, pool, config, progress)

    def best(batch: Sequence[Sample]) -> dict[Layer, Tensor]:
        states = visual_states(vlm, batch, sites.values())
        return {
            layer: risk_scores(states[site], vectors[layer], *means[layer]).amax(dim=1).cpu()
            for layer, site in sites.items()
        }

    found = list(by_batches(pool, config.batch_size, best, "calibrating", progress=progress))
    return {
        layer: Tap(
            layer,
            vectors[layer].cpu(),
            torch.cat([scores[layer] for scores in found]),
            *means[layer],
        )
        for layer in layers
    }


def _means(
    vlm: VLM,
    sites: Mapping[Layer, Site],
    pool: Sequence[Sample],
    config: RAIConfig,
    progress: bool,
) -> dict[Layer, tuple[Tensor, Tensor]]:
    """The mean visual token and mean word at every layer, each d."""

    def summed(batch: Sequence[Sample]) -> tuple[int, dict[Layer, Tensor]]:
        states = visual_states(vlm, batch, sites.values())
        tokens = len(next(iter(states.values())))
        return tokens, {
            layer: states[site].float().sum(dim=0).cpu() for layer, site in sites.items()
        }

    sums = {layer: torch.zeros(vlm.hidden_size) for layer in sites}
    count = 0
    for tokens, parts in by_batches(
        pool, config.batch_size, summed, "centering", progress=progress
    ):
        count += tokens
        for layer, part in parts.items():
            sums[layer] += part
    return {
        layer: (sums[layer] / count, mean_word(vlm, config.prototypes, site).cpu())
        for layer, site in sites.items()
    }
