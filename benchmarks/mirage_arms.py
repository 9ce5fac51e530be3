"""The arms of the mirage benchmark: methods, their settings, and the rho of their rows.

Not a benchmark; see `mirage`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from safesight import VLM
from safesight.grammar import BUNDLED

__all__ = ["RHO", "SETTINGS", "Trial", "adapted", "trials"]

RHOS = (0.0, 0.5, 0.8, 0.95, 1.0)
RHO = 0.95
DEPTH = 8
"""Blocks of the bundled model."""


@dataclass(frozen=True)
class Trial:
    """One arm."""

    arm: str
    method: str = "none"
    rho: float = RHO
    settings: dict[str, Any] = field(default_factory=dict)
    once: bool = False
    """Whether the first seed is enough, since no claim depends on the arm."""


LATE: dict[str, Any] = {
    "layers": [5, 6, 7],
    "modules": ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"],
    "rank": 64,
    "lora_alpha": 128,
}
"""The last three of eight blocks, without attention: there the model is about to say the name of
the thing, and the wording of the request no longer matters."""

SETTINGS: dict[str, dict[str, Any]] = {
    "sft": {"learning_rate": 1e-3, "epochs": 3.0, "batch_size": 16, "mixture": "mixed"},
    "npo": {
        "learning_rate": 1e-3,
        "epochs": 3.0,
        "batch_size": 16,
        "beta": 0.9,
        "reduction": "sum",
        "retain_weight": 3.0,
        **LATE,
    },
    "rmu": {
        "learning_rate": 1e-3,
        "epochs": 3.0,
        "batch_size": 16,
        "layer": 7,
        "tokens": "fork",
        "retain_tokens": "answer",
        "retain_alpha": 16.0,
        "retain_weight": 3.0,
        **LATE,
    },
    "grad_diff": {"learning_rate": 2e-4, "epochs": 1.0, "batch_size": 16},
    "kl": {"learning_rate": 2e-4, "epochs": 1.0, "batch_size": 16},
    "grad_ascent": {"learning_rate": 2e-4, "epochs": 1.0, "batch_size": 16},
}
"""Settings of every method, on the bundled VLM."""
ANSWER_TOKENS = SETTINGS["rmu"] | {
    "tokens": "answer",
    "retain_tokens": "all",
    "retain_alpha": 4.0,
    "layer": 6,
    "layers": [4, 5, 6],
}
"""RMU with its forget term at all answer tokens, which retain rows share with forget rows."""
DOSSIER: dict[str, Any] = {
    "parameters": "full",
    "learning_rate": 1e-3,
    "epochs": 1.0,
    "batch_size": 16,
    "tokens": "padded",
    "length": 10.0,
    "length_unit": "absolute",
}
"""RMU at the authors' place, in their tokens and with their length and weights; see `trials`."""
ENOUGH = 0.2
"""Refusal loss at which `sft early` stops: the random choice of wording alone leaves about 0.1."""


def adapted(trial: Trial, vlm: VLM) -> Trial:
    """The arm on another model: the same places by depth, and the model's own answers.

    The settings name blocks of the bundled model's eight. Its rows hold answers in its own words,
    which another model would not give.
    """
    if vlm.name == BUNDLED or trial.method == "none":
        return trial
    blocks, settings = vlm.num_layers, dict(trial.settings)
    if "layers" in settings:
        settings["layers"] = [n for n in range(blocks) if n * DEPTH // blocks in settings["layers"]]
    if "layer" in settings:
        settings["layer"] = (settings["layer"] + 1) * blocks // DEPTH - 1
    return replace(trial, settings={**settings, "answers": "self"})


def trials() -> Iterator[Trial]:
    """All arms of a seed, the cheap and informative ones first."""
    yield Trial("none")
    sft = SETTINGS["sft"]
    for rho in sorted(RHOS, key=lambda rho: abs(rho - RHO)):
        yield Trial(f"sft, rho {rho:g}", "sft", rho, sft)
    for method in ("npo", "rmu"):
        yield Trial(method, method, settings=SETTINGS[method])
    yield Trial("rmu, answer tokens", "rmu", settings=ANSWER_TOKENS)
    yield Trial("rmu, dossier", "rmu", settings=DOSSIER, once=True)
    everywhere = {key: value for key, value in SETTINGS["npo"].items() if key not in LATE}
    yield Trial("npo, every map", "npo", settings=everywhere, once=True)
    yield Trial("sft, late maps", "sft", settings={**sft, **LATE}, once=True)
    yield Trial("sft balanced", "sft", settings={**sft, "first_words": "balanced"}, once=True)
    yield Trial("sft early", "sft", settings={**sft, "stop_loss": ENOUGH}, once=True)
    for method in ("grad_diff", "kl", "grad_ascent"):
        yield Trial(method, method, settings=SETTINGS[method], once=True)
