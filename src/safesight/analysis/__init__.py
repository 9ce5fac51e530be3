"""Measurements inside a model: what its layers and the pictures it sees contain. Draws no pages.

`layers` combines the per-layer measurements, each of which has a module of its own. Results are
plain records (`results`), stored as JSON; `report` renders them. `risk_map` shows where in a
picture RAI finds risk; `rai_controls` tests whether its words matter.
"""

from safesight.analysis.layers import LayerPlan, look
from safesight.analysis.results import LayerReport
from safesight.analysis.shift import shift_alignment

__all__ = ["LayerPlan", "LayerReport", "look", "shift_alignment"]
