"""The shift that an image-tool call causes in hidden states, as a vector.

Read next: `method` (the defense), `calibration` (its fit), `states` (what it is fitted on).
"""

from safesight.defenses.tool_vector.config import ToolVectorConfig
from safesight.defenses.tool_vector.method import ToolVector

__all__ = ["ToolVector", "ToolVectorConfig"]
