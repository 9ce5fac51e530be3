"""An explicit image-tool call before the answer.

Read next: `method` (the defense), `traces` (the turns inserted before the answer).
"""

from safesight.defenses.image_tools.method import ImageTools

__all__ = ["ImageTools"]
