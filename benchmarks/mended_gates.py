"""What a detector of prompts may read in place of one state, for `mended.py`.

Not a benchmark. A reading names the states of a prefill that a detector sees and how they become
one feature vector per row; a way to fit turns labelled features into a score.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from safesight import VLM
from safesight.activations import LinearProbe, Site, last_of, resid_post, threshold_at_fpr
from safesight.adversary import Budget, DefendedModel, pgd, pixel_path
from safesight.adversary.objective import Objective
from safesight.adversary.pixels import as_picture, as_pixels
from safesight.generation.calls import run_prefill
from safesight.generation.prefill import Decision, Prefill
from safesight.models.asking import encode_asked
from safesight.types import Sample

__all__ = [
    "CHANGES",
    "FITS",
    "Gate",
    "Reading",
    "Same",
    "blocks_gate",
    "changed",
    "each_block",
    "features",
    "gate",
    "linear",
    "readings",
    "searched",
]

Score = Callable[[Tensor], Tensor]
"""Maps n x features to n scores; more is more harmful."""
SLACK = 0.25
"""How far below its threshold an attack wants each score of several, in their spread."""


@dataclass(frozen=True)
class Reading:
    """Which states a detector reads, and how they become features, B x features."""

    sites: Sequence[Site]
    read: Callable[[Prefill], Tensor]


@dataclass(frozen=True)
class Gate:
    """A detector that scores what it reads."""

    reading: Reading
    score: Score
    threshold: float
    refusal: str = "i'm sorry, but i cannot help with that."
    replay_from: None = None

    @property
    def sites(self) -> Sequence[Site]:
        """Those of the reading."""
        return self.reading.sites

    def judge(self, prefill: Prefill) -> Decision:
        """The decision on every row."""
        scores = self.score(self.reading.read(prefill))
        return Decision(scores, scores >= self.threshold, self.threshold)


def readings(vlm: VLM, pictured: Sample) -> dict[str, Reading]:
    """All readings by name.

    Args:
        vlm: The model.
        pictured: A request with a picture, to see where its tokens stand.
    """
    last = vlm.num_layers - 1
    inputs = encode_asked(vlm, [pictured])
    shown = vlm.image_mask(inputs)[0].nonzero().flatten()
    first = int(inputs["attention_mask"][0].nonzero()[0])
    span = int(shown[0]) - first, int(shown[-1]) + 1 - first
    blocks = [resid_post(layer) for layer in range(vlm.num_layers)]
    return {
        "last block": Reading([resid_post(last)], partial(_last, sites=[resid_post(last)])),
        "block 5": Reading([resid_post(5)], partial(_last, sites=[resid_post(5)])),
        "last 8 tokens": Reading([resid_post(last)], partial(_last_few, site=resid_post(last))),
        "visual tokens": Reading([resid_post(last)], partial(_visual, resid_post(last), span)),
        "all tokens": Reading([resid_post(last)], partial(_mean, site=resid_post(last))),
        "all blocks": Reading(blocks, partial(_last, sites=blocks)),
    }


def _last(prefill: Prefill, sites: Sequence[Site]) -> Tensor:
    return torch.cat([prefill.at_last(prefill.states[site]) for site in sites], dim=-1)


def _last_few(prefill: Prefill, site: Site, number: int = 8) -> Tensor:
    hidden, mask = prefill.states[site], _mask(prefill, site)
    rows, last = torch.arange(len(hidden)), last_of(mask, hidden.shape[1])
    return torch.cat([hidden[rows, last - back] for back in range(number)], dim=-1)


def _visual(site: Site, span: tuple[int, int], prefill: Prefill) -> Tensor:
    """The mean over visual tokens, at the same place in every request with a picture."""
    hidden, mask = prefill.states[site], _mask(prefill, site)
    first = mask.long().argmax(dim=1)
    place = (first[:, None] + torch.arange(*span)).clamp(max=hidden.shape[1] - 1)
    return hidden[torch.arange(len(hidden))[:, None], place].mean(dim=1)


def _mean(prefill: Prefill, site: Site) -> Tensor:
    hidden, mask = prefill.states[site], _mask(prefill, site)
    chosen = mask[:, : hidden.shape[1], None].to(hidden.dtype)
    return (hidden * chosen).sum(dim=1) / chosen.sum(dim=1)


def _mask(prefill: Prefill, site: Site) -> Tensor:
    hidden = prefill.states[site]
    return torch.ones(hidden.shape[:2]) if prefill.mask is None else prefill.mask


def features(
    vlm: VLM, every: Mapping[str, Reading], samples: Sequence[Sample]
) -> dict[str, Tensor]:
    """What readings make of samples, n x features each, in one pass."""
    sites = sorted({site for each in every.values() for site in each.sites})
    found: dict[str, list[Tensor]] = {name: [] for name in every}
    for start in range(0, len(samples), 48):
        inputs = encode_asked(vlm, samples[start : start + 48])
        _, prefill = run_prefill(vlm, dict(inputs), sites, None)
        with torch.no_grad():
            for name, reading in every.items():
                found[name].append(reading.read(prefill))
    return {name: torch.cat(rows) for name, rows in found.items()}


def linear(x: Tensor, y: Tensor) -> Score:
    """The probe's own fit."""
    return LinearProbe.fit(x, y, C=0.01, standardize=True).score


def class_means(x: Tensor, y: Tensor) -> Score:
    """How much nearer the harmful mean is than the benign one, in the shared covariance."""
    means = [x[y == label].mean(dim=0) for label in (0, 1)]
    precision = _precision(torch.cat([x[y == label] - means[label] for label in (0, 1)]))
    return lambda z: _distance(z - means[0], precision) - _distance(z - means[1], precision)


def far_from_benign(x: Tensor, y: Tensor) -> Score:
    """The distance from benign requests in their covariance, whatever the direction."""
    mean = x[y == 0].mean(dim=0)
    precision = _precision(x[y == 0] - mean)
    return lambda z: _distance(z - mean, precision)


def each_block(x: Tensor, y: Tensor, blocks: int) -> list[Score]:
    """A probe for each block of features that stand side by side."""
    width = x.shape[1] // blocks
    return [
        partial(_of_block, linear(x[:, at : at + width], y), at, width)
        for at in range(0, x.shape[1], width)
    ]


def _of_block(score: Score, at: int, width: int, z: Tensor) -> Tensor:
    return score(z[:, at : at + width])


def _precision(centred: Tensor) -> Tensor:
    covariance = centred.T @ centred / len(centred)
    ridge = 0.1 * covariance.diagonal().mean()
    return torch.linalg.inv(covariance + ridge * torch.eye(len(covariance)))


def _distance(z: Tensor, precision: Tensor) -> Tensor:
    return ((z @ precision) * z).sum(dim=-1)


FITS: dict[str, Callable[[Tensor, Tensor], Score]] = {
    "linear": linear,
    "class means": class_means,
    "far from benign": far_from_benign,
}


def gate(reading: Reading, score: Score, benign: Tensor, rate: float = 0.01) -> Gate:
    """A detector whose threshold refuses a share of benign features."""
    return Gate(reading, score, threshold_at_fpr(score(benign), rate).value)


def blocks_gate(reading: Reading, gates: Sequence[Gate], benign: Tensor) -> Gate:
    """What an attacker faces who does not know which of several detectors will be asked.

    Its score is the mean over them of how far each is from letting the request pass, in the spread
    of its benign scores; it vanishes where all do. So an attack lowers the chance to be refused by
    one drawn at random, and that to be refused by any.
    """
    spreads = [each.score(benign).std() for each in gates]

    def score(z: Tensor) -> Tensor:
        pairs = zip(gates, spreads, strict=True)
        far = [torch.relu((g.score(z) - g.threshold) / spread + SLACK) for g, spread in pairs]
        return torch.stack(far).mean(dim=0)

    return Gate(reading, score, threshold=1e-9)


class Same:
    """A change of pictures that changes nothing, and the base of those that do."""

    draws = 1
    """How many changed pictures an attack averages over in each step."""

    def __call__(self, pixels: Tensor) -> Tensor:
        """3 x H x W from 0 to 1, changed; gradients flow through it."""
        return pixels


class Blur(Same):
    """A Gaussian blur of one pixel."""

    def __call__(self, pixels: Tensor) -> Tensor:
        """Blurred."""
        weights = torch.exp(-torch.arange(-2.0, 3.0).square() / 2)
        kernel = (weights[:, None] * weights) / weights.sum() ** 2
        padded = F.pad(pixels[:, None], (2, 2, 2, 2), mode="replicate")
        return F.conv2d(padded, kernel[None, None])[:, 0]


class Smaller(Same):
    """Half the size and back."""

    def __call__(self, pixels: Tensor) -> Tensor:
        """With half of the detail."""
        half = F.interpolate(pixels[None], scale_factor=0.5, mode="bilinear", antialias=True)
        return F.interpolate(half, size=pixels.shape[1:], mode="bilinear")[0]


class Coarse(Same):
    """Eight values a channel; an attack passes gradients straight through."""

    def __call__(self, pixels: Tensor) -> Tensor:
        """Rounded."""
        return pixels + ((pixels * 7).round() / 7 - pixels).detach()


class Jpeg(Same):
    """JPEG of quality 50; an attack passes gradients straight through."""

    def __call__(self, pixels: Tensor) -> Tensor:
        """Compressed with loss."""
        content = io.BytesIO()
        as_picture(pixels).save(content, format="JPEG", quality=50)
        found = as_pixels(Image.open(content))
        return pixels + (found - pixels).detach()


class Noise(Same):
    """Noise of 16/255, new each time; an attack averages over it."""

    draws = 2

    def __init__(self) -> None:
        self.rng = torch.Generator().manual_seed(0)

    def __call__(self, pixels: Tensor) -> Tensor:
        """With noise."""
        noise = torch.randn(pixels.shape, generator=self.rng) * 16 / 255
        return (pixels + noise).clamp(0, 1)


CHANGES: dict[str, Callable[[], Same]] = {
    "blur": Blur,
    "half size": Smaller,
    "8 values": Coarse,
    "jpeg 50": Jpeg,
    "noise 16": Noise,
}


def changed(sample: Sample, change: Same, picture: Any = None) -> Sample:
    """The sample with its picture, or another in its place, changed; one without stays."""
    shown = sample.image if picture is None else lambda: picture
    if shown is None or (picture is None and type(change) is Same):
        return sample
    content = np.asarray(as_picture(change(as_pixels(shown()))))
    return replace(sample, image=lambda: Image.fromarray(content))


def searched(
    model: DefendedModel,
    samples: Sequence[Sample],
    wanted: Sequence[Sequence[int]],
    budget: Budget,
    change: Same,
    seed: int,
) -> list[Any]:
    """The pictures that a search finds through a change of pictures, for one batch."""
    paths, batch = [pixel_path(model.vlm, each) for each in samples], model.batch(samples, wanted)

    def tensors(pixels: Tensor) -> list[Any]:
        pairs = zip(paths, pixels.unbind(), strict=True)
        return [path.tensors(model.vlm, change(own)) for path, own in pairs]

    start = torch.stack([path.start for path in paths])
    with torch.no_grad():
        objective = Objective(model.scores(batch, tensors(start)))

    def losses(pixels: Tensor) -> Tensor:
        each = [objective(model.scores(batch, tensors(pixels))) for _ in range(change.draws)]
        return torch.stack(each).mean(dim=0)

    return [as_picture(each) for each in pgd(start, losses, budget, seed).best]
