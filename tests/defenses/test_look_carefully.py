"""The attention prompt is a system turn, and has no word of safety in it."""

from __future__ import annotations

import re

from safesight.defenses import load_defense
from safesight.defenses.baselines.look_carefully import LookCarefullyConfig
from tests import tiny

SAFETY = r"(?i)safe|harm|danger|illegal|unethical|malicious|refus|sorry|risk"


def test_it_equals_a_system_turn() -> None:
    vlm = tiny.vlm("llava")
    text = LookCarefullyConfig().text
    system = {"role": "system", "content": [{"type": "text", "text": text}]}
    question = tiny.ask("what is this?", tiny.picture())
    rewrite = load_defense("look_carefully").build(vlm).rewrite
    assert rewrite is not None
    found = rewrite(dict(vlm.encode([question])))
    expected = vlm.encode([[system, *question]])
    assert found["input_ids"].tolist() == expected["input_ids"].tolist()


def test_it_says_nothing_of_safety() -> None:
    assert not re.search(SAFETY, LookCarefullyConfig().text)
    assert re.search(SAFETY, "look for danger"), "the check can fail"
