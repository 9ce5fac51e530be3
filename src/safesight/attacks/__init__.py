"""Attacks rewrite a request so that a defense may miss it: `Sample` to `Sample`.

Each is named by its technique, not by a harm, and knows no model: it moves words, it
does not optimize. The label and the target stay, so a judge reads the attacked answer
as it read the plain one; the id is derived, so both can be paired.
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
