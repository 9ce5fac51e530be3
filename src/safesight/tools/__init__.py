"""Image tools a model may call: what they do, how they are offered, what they return.

Pictures and text only; this package knows no models or tensors. Read next: `calls` (the tools, and
running a call), `formats` (how a chat writes calls), `conditions` (the processes that a tool call
is compared with).
"""

from safesight.tools.calls import TOOLS, Tool, ToolError, call_text, has_call, run_call
from safesight.tools.conditions import CONDITIONS, Condition, condition
from safesight.tools.formats import ToolFormat, ToolSetup, setup_for

__all__ = [
    "CONDITIONS",
    "TOOLS",
    "Condition",
    "Tool",
    "ToolError",
    "ToolFormat",
    "ToolSetup",
    "call_text",
    "condition",
    "has_call",
    "run_call",
    "setup_for",
]
