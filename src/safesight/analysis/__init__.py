"""Looking inside: what a model's layers and its pictures hold, measured and never drawn.

`layers` puts the measures of layers together; each of the others is one of them. Results are
plain records (`results`) that are written as JSON; pages are made of them in `report`.
`risk_map` says where in a picture RAI finds risk, `rai_controls` whether it is the words
that matter.
"""

from safesight.analysis.layers import LayerPlan, look
from safesight.analysis.results import LayerReport
from safesight.analysis.shift import shift_alignment

__all__ = ["LayerPlan", "LayerReport", "look", "shift_alignment"]
