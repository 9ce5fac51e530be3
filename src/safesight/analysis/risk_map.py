"""Where RAI sees risk: the largest cosine of every visual token, and the word it belongs to.

`risk_map` reads what the defense reads, with the same artifact; `draw` overlays it on the
picture. Scores belong to visual tokens. A token is not a patch: a vision tower mixes patches
before the decoder sees them, so a hot cell shows the token's position, not the pixels it is
about. A picture that is split into tiles has no simple grid; its scores are given by token only.
Of several pictures each has a map of its own: `risk_maps`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isqrt, prod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from safesight.activations import capture
from safesight.defenses.rai.method import RAI, injection_of
from safesight.errors import InputError
from safesight.generation.calls import run_prefill
from safesight.generation.shown_pictures import shown_pictures
from safesight.models.asking import encode_asked
from safesight.models.picture_tensors import last_picture, split_pictures
from safesight.types import Sample

if TYPE_CHECKING:
    from safesight.defenses import Artifact
    from safesight.models import VLM

__all__ = ["RiskMap", "draw", "grid_of", "risk_map", "risk_maps"]

_LONGEST = 480
"""Longest side of a drawn map, in pixels."""
_HOT = (214, 69, 35)


@dataclass(frozen=True)
class RiskMap:
    """What RAI sees in the pictures of one prompt, n visual tokens in order."""

    scores: Tensor
    """The largest cosine of each token with a word: n."""
    words: tuple[str, ...]
    """The word that cosine belongs to: n."""
    moved: Tensor
    """Which tokens pass the gate: n, bool."""
    relative_shift: Tensor
    """||delta|| / ||h|| of each token: n, zero where nothing moved."""
    tau: float
    grid: tuple[int, int] | None
    """Rows and columns of the tokens, or None where a picture was split into tiles, or there are
    several."""
    picture: Image.Image
    """The picture as the model sees it, cropped and resized; of several the first."""

    def summary(self) -> dict[str, Any]:
        """Counts, and the words of moved tokens with their largest cosine; JSON values only."""
        found: dict[str, float] = {}
        for word, score, moved in zip(self.words, self.scores, self.moved, strict=True):
            if moved:
                found[word] = max(found.get(word, -1.0), round(float(score), 4))
        return {
            "moved": int(self.moved.sum()),
            "visual_tokens": len(self.words),
            "tau": round(self.tau, 4),
            "words": dict(sorted(found.items(), key=lambda item: -item[1])),
        }


def risk_map(
    vlm: VLM, source: Sample | Image.Image, artifact: Artifact, **settings: Any
) -> RiskMap:
    """What RAI sees in a picture, or in all pictures of a prompt together.

    Args:
        vlm: The model under test; it is not changed.
        source: A sample with pictures, or a picture alone.
        artifact: Artifact of a RAI fit on this model.
        **settings: RAI settings that override the artifact's, such as `tau`.

    Raises:
        InputError: the sample has no picture.
        ArtifactError: the artifact belongs to another defense or model.

    Example:
        >>> from safesight import VLM
        >>> from safesight.benchmarks import load_benchmark
        >>> from safesight.defenses import FitData, load_defense
        >>> vlm = VLM.load("testbed")
        >>> harmful = load_benchmark("image_harm")(4, split="fit")
        >>> artifact = load_defense("rai").fit(vlm, FitData(harmful, ()), progress=False)
        >>> seen = risk_map(vlm, harmful[0], artifact)
        >>> seen.grid, len(seen.words), draw(seen).size
        ((6, 6), 36, (480, 480))
    """
    return _together(vlm, _sample(source), artifact, settings)[0]


def risk_maps(
    vlm: VLM, source: Sample | Image.Image, artifact: Artifact, **settings: Any
) -> list[RiskMap]:
    """What RAI sees in each picture of a prompt, in order.

    Args:
        vlm: The model under test; it is not changed.
        source: A sample with pictures, or a picture alone.
        artifact: Artifact of a RAI fit on this model.
        **settings: As for `risk_map`.

    Raises:
        InputError: the sample has no picture, or its pictures cannot be distinguished.
        ArtifactError: the artifact belongs to another defense or model.
    """
    sample = _sample(source)
    whole, inputs = _together(vlm, sample, artifact, settings)
    if len(sample.pictures) == 1:
        return [whole]
    row = inputs["input_ids"][0]
    shown = shown_pictures(vlm, row.tolist(), split_pictures(vlm, inputs)[0])
    found, start = [], 0
    for each in shown:
        own = slice(start, start + len(each.tokens))
        start = own.stop
        alone = {"input_ids": row[each.tokens[0] : each.tokens[-1] + 1][None], **each.tensors}
        found.append(
            replace(
                whole,
                scores=whole.scores[own],
                words=whole.words[own],
                moved=whole.moved[own],
                relative_shift=whole.relative_shift[own],
                grid=grid_of(vlm, alone),
                picture=last_picture(vlm, each.tensors),
            )
        )
    return found


def _sample(source: Sample | Image.Image) -> Sample:
    if isinstance(source, Image.Image):
        return Sample("", "what is this?", "benign", "", image=source.copy)
    if not source.pictures:
        raise InputError("A risk map needs a picture, but this sample has none. Use another one.")
    return source


def _together(
    vlm: VLM, sample: Sample, artifact: Artifact, settings: dict[str, Any]
) -> tuple[RiskMap, Any]:
    """The map of all visual tokens of a prompt, and the inputs it was read from."""
    injection = injection_of(*RAI(**settings).resolve(vlm, artifact))
    inputs = encode_asked(vlm, [sample])
    mask = vlm.image_mask(inputs)
    with capture(vlm.layers, [injection.site], tokens=mask) as states:
        run_prefill(vlm, dict(inputs), [], None)
    hidden, rows = states[injection.site].float(), mask.nonzero()[:, 0]
    best = injection.scores(hidden).max(dim=1)
    added = injection.shift(hidden, rows)
    seen = RiskMap(
        scores=best.values.cpu(),
        words=tuple(artifact.fitted["words"][index] for index in best.indices.tolist()),
        moved=(injection.passed(hidden, rows) != 0).any(dim=1).cpu(),
        relative_shift=(added.norm(dim=1) / hidden.norm(dim=1)).cpu(),
        tau=injection.tau,
        grid=grid_of(vlm, inputs),
        picture=_as_seen(vlm, inputs, sample.pictures[0]()),
    )
    return seen, inputs


def grid_of(vlm: VLM, inputs: Any) -> tuple[int, int] | None:
    """Rows and columns of the visual tokens of one prompt with one picture.

    None if the picture was split into tiles, or there are several pictures.
    """
    mask = vlm.image_mask(inputs)[0].tolist()
    patches = inputs.get("image_grid_thw")
    if patches is not None:
        if len(patches) != 1 or int(patches[0, 0]) != 1:
            return None
        rows, columns = int(patches[0, 1]), int(patches[0, 2])
        merged = isqrt(rows * columns // sum(mask))  # patches per token, along each side
        return rows // merged, columns // merged
    pixels = inputs.get("pixel_values")
    if pixels is None or prod(pixels.shape[:-3]) != 1:
        return None
    runs = _runs(mask)
    if len(runs) > 1:  # some families end every row of tokens with an extra token
        return (len(runs), runs[0]) if len(set(runs)) == 1 else None
    side = isqrt(runs[0])
    return (side, side) if side * side == runs[0] else None


def draw(seen: RiskMap) -> Image.Image:
    """The map over the picture: warmer is riskier; tokens that move are framed and labelled.

    Raises:
        InputError: the tokens have no grid, as the model splits pictures into tiles, or the map
            is of several pictures.
    """
    if seen.grid is None:
        raise InputError(
            "These visual tokens have no grid to draw: the model splits pictures into tiles, or "
            "there are several. Use the scores of the tokens, or draw each of `risk_maps`."
        )
    rows, columns = seen.grid
    factor = _LONGEST / max(seen.picture.size)
    width, height = (round(side * factor) for side in seen.picture.size)
    heat = seen.scores.clamp(min=0).reshape(rows, columns)
    # Scaled by the threshold, too; otherwise even a harmless picture would glow.
    heat = heat / max(float(heat.max()), min(seen.tau, 1.0), 1e-6)
    alpha = Image.fromarray((heat.numpy() * 190).astype(np.uint8)).resize(
        (width, height), Image.Resampling.NEAREST
    )
    base = seen.picture.convert("L").convert("RGB").resize((width, height))
    base.paste(Image.new("RGB", base.size, _HOT), mask=alpha)
    pen = ImageDraw.Draw(base)
    font = ImageFont.load_default(max(9, min(height // rows // 4, 16)))
    for index in seen.moved.nonzero().flatten().tolist():
        row, column = divmod(index, columns)
        left, top = column * width // columns, row * height // rows
        right, bottom = (column + 1) * width // columns - 1, (row + 1) * height // rows - 1
        pen.rectangle((left, top, right, bottom), outline="white", width=2)
        label = f"{seen.words[index]}\n{float(seen.scores[index]):.2f}"
        pen.multiline_text((left + 4, top + 3), label, fill="white", font=font)
    return base


def _runs(mask: list[bool]) -> list[int]:
    """Lengths of the contiguous runs of visual tokens."""
    runs: list[int] = []
    previous = False
    for here in mask:
        if here:
            runs[-1:] = [runs[-1] + 1] if previous else [*runs[-1:], 1]
        previous = here
    return runs


def _as_seen(vlm: VLM, inputs: Any, picture: Image.Image) -> Image.Image:
    """The pixels that reach the model, if they still form a picture; else the original."""
    pixels = inputs["pixel_values"]
    if pixels.dim() < 4 or prod(pixels.shape[:-3]) != 1:
        return picture
    shown = pixels.reshape(pixels.shape[-3:]).float().cpu()
    processor = vlm.processor.image_processor
    if getattr(processor, "do_normalize", False):
        mean, std = (torch.tensor(getattr(processor, f"image_{k}")) for k in ("mean", "std"))
        shown = shown * std[:, None, None] + mean[:, None, None]
    array = (shown.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    return Image.fromarray(array)
