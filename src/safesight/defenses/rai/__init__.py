"""Risk Awareness Injection.

Read next: `method` (the defense), `injection` (its mathematics), `calibration` and `search` (its
fit).
"""

from safesight.defenses.rai.config import RAIConfig
from safesight.defenses.rai.method import RAI

__all__ = ["RAI", "RAIConfig"]
