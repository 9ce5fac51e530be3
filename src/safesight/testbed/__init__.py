"""The bundled VLM and its world: a small LLaVA whose ground truth is known.

`WEIGHTS` is a plain `transformers` folder. Everything else is loaded by name through
`safesight.registry`; only this package's own trainer imports it directly.
"""

from __future__ import annotations

from pathlib import Path

from safesight.testbed.language import REFUSALS

__all__ = ["REFUSALS", "WEIGHTS"]

WEIGHTS = Path(__file__).parent / "weights"
