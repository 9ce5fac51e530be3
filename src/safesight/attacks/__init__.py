"""Attacks rewrite a request so that a defense may miss it: `Sample` to `Sample`.

Each is named after its technique, not after a harm, and knows no model: it rewrites text and
does not optimize. Label and target stay the same, so a judge treats the attacked answer like the
plain one. The id is derived, so the two can be paired.
"""

from safesight.attacks.one_word import OneWord, OneWordMood, OneWordParaphrase, OneWordStrict
from safesight.attacks.picture import Picture
from safesight.attacks.prefill import Prefill
from safesight.attacks.typography import Typography

__all__ = [
    "OneWord",
    "OneWordMood",
    "OneWordParaphrase",
    "OneWordStrict",
    "Picture",
    "Prefill",
    "Typography",
]
