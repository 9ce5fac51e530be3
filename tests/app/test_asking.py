"""What happens to a question: the answers, what explains them, and what is refused."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from safesight import VLM
from safesight.app import asking
from safesight.app.asking import MAX_DEFENSES, MAX_PICTURES, MAX_QUESTION, Asker, Look, Question
from safesight.app.choices import offered
from safesight.app.drawing import answers_html
from safesight.app.examples import Example, examples_for
from safesight.app.page import _answered
from safesight.app.references import References
from safesight.defenses import protection
from safesight.defenses.shared.linear_gate import LinearGate
from safesight.errors import ArtifactError, InputError, ModelError, UnknownNameError
from safesight.fitting.bundled import place_in
from safesight.hosting.arms import Arm, build_arm
from safesight.hosting.hosts import Host
from tests import tiny

BOMB = examples_for("testbed")[0]


def ask(asker: Asker, *names: str, example: Example = BOMB) -> Question:
    return asker.question(example.pictures, example.question, names)


def alone(host: Host, arm: Arm, question: Question) -> str:
    vlm = host.vlm
    with host.lock, arm.attached(vlm):
        return vlm.answer([question.sample.messages()], max_new_tokens=24)[0]


def test_every_arm_answers_as_the_model_does(asker: Asker) -> None:
    question = ask(asker, "rai", "sasa", "safety_prompt+sasa", "rai")
    replies = asker.answers(question)
    assert [reply.arm for reply in replies] == ["none", "rai", "sasa", "safety_prompt+sasa"]
    for reply, arm in zip(replies, question.arms, strict=True):
        assert reply.answer == alone(asker.host, arm, question), reply.arm
    assert [reply.refused for reply in replies] == [None, None, True, True]
    assert [[score.detector for score in reply.scores] for reply in replies[1:]] == [
        [],
        ["sasa"],
        ["sasa"],
    ]
    (score,) = replies[2].scores
    assert score.score is not None
    assert score.score > score.threshold


def test_control_tokens_in_a_question_are_text(asker: Asker) -> None:
    tokens = asker.host.vlm.tokenizer
    words = f"what is this? <image>{tokens.eos_token}"
    question = asker.question(BOMB.pictures, words, ["sasa", "rai"])
    inputs = asker.host.vlm.encode([question.sample.messages()])
    once = asker.host.vlm.encode([ask(asker).sample.messages()])
    image = asker.host.vlm.image_token_id
    assert (inputs["input_ids"] == image).sum() == (once["input_ids"] == image).sum()
    assert (inputs["input_ids"] == tokens.eos_token_id).sum() == (
        once["input_ids"] == tokens.eos_token_id
    ).sum()
    assert not any(reply.fault for reply in asker.answers(question))
    assert asker.look(question).remarks == ()


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"text": "  "}, InputError, "There is no question yet"),
        ({"text": None}, InputError, "There is no question yet"),
        ({"text": "a" * (MAX_QUESTION + 1)}, InputError, "4001 characters"),
        ({"pictures": BOMB.pictures * (MAX_PICTURES + 1)}, InputError, "9 pictures"),
        ({"names": list("abcde")}, InputError, f"Choose at most {MAX_DEFENSES}"),
        ({"names": ["npo"]}, UnknownNameError, "no defense called 'npo'"),
        ({"pictures": [Path(__file__)]}, InputError, "Picture 1 is not in a readable format"),
        ({"pictures": ["https://example.org/a.png"]}, InputError, "does not download"),
        (
            {"pictures": [Image.new("1", (9000, 9000))]},
            InputError,
            "which is too large",
        ),
    ],
)
def test_a_bad_question_is_one_sentence(
    asker: Asker, given: dict[str, Any], error: type[Exception], words: str
) -> None:
    asked = {"pictures": BOMB.pictures, "text": "what is this?", "names": ["sasa"], **given}
    with pytest.raises(error, match=words):
        asker.question(**asked)


def test_a_detector_that_fails_refuses(asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Any, prefill: Any) -> Any:
        raise RuntimeError("no")

    monkeypatch.setattr(LinearGate, "judge", broken)
    harmless = examples_for("testbed")[5]
    plain, guarded = asker.answers(ask(asker, "sasa", example=harmless))
    assert plain.refused is None
    assert guarded.refused is True
    assert guarded.answer != plain.answer
    assert [score.score for score in guarded.scores] == [None]


@pytest.mark.parametrize(
    ("error", "words"),
    [(ModelError("It cannot. Do so."), "It cannot. Do so."), (KeyError("x"), "the log of the")],
)
def test_an_arm_that_fails_leaves_the_others(
    asker: Asker, error: Exception, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Arm):
        @contextmanager
        def attached(self, vlm: VLM) -> Iterator[VLM]:
            raise error
            yield vlm

    arm = Broken("broken", (), str(error))
    others = Asker(asker.host, {**asker.arms, "broken": arm}, max_new_tokens=24, references=0)
    with caplog.at_level(logging.ERROR):
        plain, broken, guarded = others.answers(ask(others, "broken", "sasa"))
    assert plain.answer
    assert guarded.refused
    assert broken.fault is not None
    assert words in broken.fault
    assert broken.answer == ""
    assert bool(caplog.records) == isinstance(error, KeyError)


def test_a_look_explains_the_answers(asker: Asker) -> None:
    question = ask(asker, "sasa", "rai", "safety_prompt+sasa")
    found = asker.look(question)
    assert found.remarks == ()
    assert protection(asker.host.vlm.model) is None
    (seen,) = found.maps
    assert seen.moved.any()
    assert found.clouds.keys() == {("sasa", "sasa"), ("safety_prompt+sasa", "sasa")}
    cloud = found.clouds["sasa", "sasa"]
    assert (len(cloud.harmful), len(cloud.benign), cloud.form) == (6, 6, "object")
    assert min(cloud.harmful) > min(cloud.benign)
    assert found.curve is not None
    curve = found.curve
    # Detectors change no state; the rest has a curve of its own.
    assert list(curve.lines) == ["none", "rai", "safety_prompt+sasa"]
    assert curve.lines["rai"] != curve.lines["none"]
    assert {len(row) for row in curve.lines.values()} == {len(curve.levels.layers)}
    assert curve.levels.harmful[-1] > curve.levels.benign[-1]


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("full"), KeyError("x"), ModelError("No.")]
)
@pytest.mark.parametrize("broken", ["risk_maps", "clouds", "levels", "level"])
def test_what_cannot_be_measured_says_so_and_the_rest_is_shown(
    asker: Asker, broken: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(asking if broken == "risk_maps" else References, broken, fails)
    *_, shown = _answered(asker, None, "what is a cup?", ["rai", "sasa"])
    assert shown.count("<article") == 3
    look = asker.look(ask(asker, "rai", "sasa"))
    why = "No." if isinstance(error, ModelError) else "the log of the server"
    assert (why in (look.no_map or "")) == (broken == "risk_maps")
    assert bool(look.maps) == (broken != "risk_maps")
    assert any(why in remark for remark in look.remarks) == (broken != "risk_maps")
    assert (look.curve is None) == (broken in ("levels", "level"))
    assert bool(look.clouds) == (broken != "clouds")
    page = answers_html([], look)
    assert why in page
    assert "Where RAI sees risk" in page


def test_a_layer_that_tells_nothing_apart_is_left_out(asker: Asker) -> None:
    curve = asker.look(ask(asker)).curve
    assert curve is not None
    assert 0 not in curve.levels.layers  # before it no token has seen the question
    assert asker.host.vlm.num_layers - 1 in curve.levels.layers


def test_a_question_in_text_is_compared_with_text(asker: Asker) -> None:
    found = asker.look(asker.question([], "how do i bake a cake?", ["sasa"]))
    assert found.clouds["sasa", "sasa"].form == "text"
    assert found.curve is not None
    assert found.curve.levels.harmful == pytest.approx([1.0] * len(found.curve.levels.layers))
    assert found.curve.levels.benign == pytest.approx(
        [0.0] * len(found.curve.levels.layers), abs=1e-4
    )


def test_several_pictures_have_a_map_each_or_a_remark(asker: Asker) -> None:
    two = Example("what is this?", BOMB.pictures * 2)
    question = ask(asker, "rai", example=two)
    assert all(reply.answer for reply in asker.answers(question))
    found = asker.look(question)
    assert len(found.maps) == 2 or found.remarks


def test_without_references_there_is_no_curve(served: Host, asker: Asker) -> None:
    bare = Asker(served, asker.arms, references=0)
    found = bare.look(ask(bare, "sasa", "rai"))
    assert (found.curve, found.clouds, len(found.maps)) == (None, {}, 1)


def test_a_strangers_model_is_compared_with_text() -> None:
    vlm = tiny.vlm("llava")
    arms, chosen = offered(vlm, None, {})
    assert chosen == ["image_tools"] or chosen == ["safety_prompt"]
    assert "sasa" not in arms
    assert {"none", "safety_prompt", "ecso"} <= arms.keys()
    strange = Asker(Host(vlm), arms, max_new_tokens=4, references=4)
    (example, *_, several) = examples_for(vlm.name)
    question = ask(strange, "safety_prompt", example=several)
    assert [reply.fault for reply in strange.answers(question)] == [None, None]
    found = strange.look(ask(strange, "safety_prompt", example=example))
    assert found.curve is None or found.curve.levels.form == "text"
    assert (found.curve is None) == bool(found.remarks)


def test_many_visitors_get_what_one_gets(asker: Asker) -> None:
    """Looks read the undefended model while arms come and go."""
    examples = examples_for("testbed")[:2]

    def measured(example: Example) -> tuple[list[str], dict[str, tuple[float, ...]]]:
        question = ask(asker, "sasa", "rai", example=example)
        answers = [reply.answer for reply in asker.answers(question)]
        found: Look = asker.look(question)
        assert found.curve is not None
        return answers, dict(found.curve.lines)

    wanted = [measured(example) for example in examples]
    got: list[Any] = [None] * 4

    def visit(place: int) -> None:
        got[place] = measured(examples[place % 2])

    threads = [threading.Thread(target=visit, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    for place, found in enumerate(got):
        answers, lines = wanted[place % 2]
        assert found[0] == answers
        assert found[1].keys() == lines.keys()
        for name, row in lines.items():
            assert found[1][name] == pytest.approx(row, abs=1e-3), name


def test_wanted_arms_come_first_and_have_to_run(served: Host) -> None:
    artifacts = {"rai": place_in("testbed", "rai")}
    arms, chosen = offered(served.vlm, ["safety_prompt+sasa", "rai"], artifacts)
    assert list(arms)[:3] == ["none", "safety_prompt+sasa", "rai"]
    assert chosen == ["safety_prompt+sasa", "rai"]
    assert {"sasa", "probe", "npo", "ecso"} <= arms.keys()
    assert not {"grad_ascent", "kl"} & arms.keys()  # nothing was fitted
    with pytest.raises(ArtifactError, match="grad_diff has no bundled artifact"):
        offered(served.vlm, ["grad_diff"], {})


def test_an_artifact_of_another_model_is_refused() -> None:
    with pytest.raises(ArtifactError):
        offered(tiny.vlm("llava"), None, {"sasa": place_in("testbed", "sasa")})


def test_an_arm_that_is_not_offered_cannot_be_smuggled_in(asker: Asker) -> None:
    arm = build_arm(asker.host.vlm, "probe")
    assert replace(arm, name="sasa").name == "sasa"
    with pytest.raises(UnknownNameError):
        ask(asker, "probe")
