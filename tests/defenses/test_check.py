"""The self-check runs what defenses run, and what goes wrong in it is a sentence."""

from __future__ import annotations

from types import MethodType

import pytest

from safesight import protect
from safesight.defenses import check as checks
from safesight.defenses import load_defense
from safesight.defenses.check import check, require
from safesight.errors import ModelError
from safesight.models import VLM
from tests import tiny
from tests.contracts.defense_helpers import fingerprint, fit_data


@pytest.mark.parametrize("family", ["llava", "gemma4", "qwen3_5"])
def test_a_good_model_passes_and_is_left_as_it_was(family: str) -> None:
    vlm = tiny.vlm(family)
    before = fingerprint(vlm.model)
    report = check(vlm)
    assert report.ok, str(report)
    assert {"generate", "logits processors", "detector", "edit", "training step"} <= {
        item.name for item in report.checks
    }
    assert fingerprint(vlm.model) == before


def test_a_generate_that_drops_logits_processors_is_seen() -> None:
    """Janus does so. A detector would refuse every row, and CoCA would do nothing."""
    found = {item.name: item for item in check(tiny.vlm("janus")).checks}
    assert not found["logits processors"].ok
    assert not found["detector"].ok
    assert found["generate"].ok
    assert found["edit"].ok
    artifact = load_defense("probe").fit(tiny.vlm("janus"), fit_data(), progress=False)
    with pytest.raises(ModelError, match="logits processors"):
        protect(tiny.vlm("janus"), "probe", artifact)
    with pytest.raises(ModelError, match="logits processors"):
        protect(tiny.vlm("janus"), "coca")
    with protect(tiny.vlm("janus"), "safety_prompt"):
        assert tiny.vlm("janus").answer([tiny.ask("hi")], max_new_tokens=1)


def test_any_exception_becomes_a_failed_check() -> None:
    vlm = VLM.wrap(*tiny.fresh("llava"))

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("somewhere\ndeep inside")

    handle = vlm.layers[0].register_forward_pre_hook(fail)
    report = check(vlm)
    assert not report.ok
    assert {item.detail for item in report.checks if not item.ok} >= {
        "it raised ZeroDivisionError: somewhere deep inside"
    }
    with pytest.raises(ModelError, match="ZeroDivisionError: somewhere deep inside"):
        require(vlm, "input")
    handle.remove()
    require(vlm, "input")  # it may pass later, with more memory


def test_blocks_that_see_something_else_are_noticed() -> None:
    vlm = VLM.wrap(*tiny.fresh("llava"))
    block = vlm.layers[vlm.num_layers // 2]
    plain = type(block).forward

    def skipped(self: object, hidden: object, *args: object, **kwargs: object) -> object:
        return plain(self, hidden, *args, **kwargs)

    # A block that is called past its hooks, as compiled code may do.
    block.forward = MethodType(skipped, block)
    type(block).__call__, kept = type(block).forward, type(block).__call__
    try:
        found = {item.name: item for item in check(vlm).checks}
    finally:
        type(block).__call__ = kept
    assert not found["edit"].ok
    assert not found["detector"].ok


def test_each_model_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    vlm = VLM.wrap(*tiny.fresh("llava"))
    calls: list[str] = []
    for name, run in list(checks._GENERATION.items()):
        monkeypatch.setitem(
            checks._GENERATION,
            name,
            lambda vlm, name=name, run=run: calls.append(name) or run(vlm),
        )
    for _ in range(2):
        protect(vlm, "safety_prompt").remove()
        protect(vlm, "coca").remove()
    assert calls == ["generate", "logits processors"]
