"""Attacks rewrite a request so that a defense may miss it: `Sample` to `Sample`.

Each is named after its technique, not after a harm, and knows no model: it rewrites text and
pictures and does not optimize. Label and target stay the same, so a judge treats the attacked
answer like the plain one. The id is derived, so the two can be paired. How often an attack asks the
model is its budget: `facts["budget"]`.
"""

from safesight.attacks.best_of_n import BestOfN
from safesight.attacks.distraction import Distraction
from safesight.attacks.figstep import FigStep
from safesight.attacks.figstep_pro import FigStepPro
from safesight.attacks.ignore_tools import IgnoreTools
from safesight.attacks.injected_result import InjectedResult
from safesight.attacks.mixup import Mixup
from safesight.attacks.mml import MMLBase64, MMLMirror, MMLRotate, MMLWordReplacement
from safesight.attacks.one_word import OneWord, OneWordMood, OneWordParaphrase, OneWordStrict
from safesight.attacks.paraphrase import Paraphrase
from safesight.attacks.picture import Picture
from safesight.attacks.prefill import Prefill
from safesight.attacks.query_relevant import QueryRelevant
from safesight.attacks.repeat import Repeat
from safesight.attacks.shuffle import Shuffle
from safesight.attacks.synonym import Synonym
from safesight.attacks.typography import Typography

__all__ = [
    "BestOfN",
    "Distraction",
    "FigStep",
    "FigStepPro",
    "IgnoreTools",
    "InjectedResult",
    "MMLBase64",
    "MMLMirror",
    "MMLRotate",
    "MMLWordReplacement",
    "Mixup",
    "OneWord",
    "OneWordMood",
    "OneWordParaphrase",
    "OneWordStrict",
    "Paraphrase",
    "Picture",
    "Prefill",
    "QueryRelevant",
    "Repeat",
    "Shuffle",
    "Synonym",
    "Typography",
]
