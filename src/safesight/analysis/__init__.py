"""Looking inside: what a model's layers hold, measured and never drawn.

`layers` puts the measures together; each of the others is one of them. Results are plain
records (`results`) that are written as JSON; pages are made of them in `report`.
"""

from safesight.analysis.layers import LayerPlan, look
from safesight.analysis.results import LayerReport
from safesight.analysis.shift import shift_alignment

__all__ = ["LayerPlan", "LayerReport", "look", "shift_alignment"]
