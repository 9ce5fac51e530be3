"""The provider: one copy of the weights, batches across callers, arms never mixed."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence

import pytest
from inspect_ai._util.error import PrerequisiteError
from inspect_ai.model import (
    ChatMessageUser,
    ContentImage,
    ContentText,
    GenerateConfig,
    Model,
    ModelOutput,
    get_model,
)
from inspect_ai.tool import ToolInfo
from PIL import Image

from safesight.errors import InputError, SafesightError
from safesight.evals import _registry  # noqa: F401 (registers the provider)
from safesight.evals.messages import data_uri
from safesight.evals.provider import SafesightAPI
from safesight.judges.spoken import spoken
from tests.evals import fake
from tests.evals.fake import stamp_artifact


def model(**args: object) -> Model:
    return get_model("safesight/fake", memoize=False, **args)


def ask(
    pairs: Sequence[tuple[Model, str]], config: GenerateConfig | None = None
) -> list[ModelOutput]:
    async def all_of_them() -> list[ModelOutput]:
        return await asyncio.gather(
            *(m.generate(question, config=config or GenerateConfig()) for m, question in pairs)
        )

    return asyncio.run(all_of_them())


def test_concurrent_calls_share_batches_in_one_thread(fakes) -> None:
    arm = model(batch_size=4)
    outputs = ask([(arm, f"q{i}") for i in range(10)])
    assert [o.completion for o in outputs] == [f"to do it, q{i} stop now" for i in range(10)]
    vlm = fakes["fake"]
    assert sorted(len(batch) for batch in vlm.batches) == [2, 4, 4]
    assert len(vlm.threads) == 1


def test_reasoning_that_the_template_opened_and_a_limit_ended_is_not_read_as_the_answer(
    fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake.FakeTokenizer, "opening", "<think>\n")
    short, long = ask([(arm := model(), "ab"), (arm, "a long one")])
    assert (short.stop_reason, short.completion) == ("stop", "to do it, ab stop now")
    assert (long.stop_reason, long.completion[:7]) == ("max_tokens", "<think>")
    assert spoken(long.completion) == ""


def test_output_carries_usage_stop_reason_and_identity(fakes) -> None:
    arm = model()
    short, long = ask([(arm, "ab"), (arm, "a long one")])
    assert (short.stop_reason, long.stop_reason) == ("stop", "max_tokens")
    assert (short.usage.input_tokens, short.usage.output_tokens) == (2, 3)
    assert (long.usage.input_tokens, long.usage.output_tokens) == (10, 4)
    assert short.metadata == {"defense": "none", "identity": arm.api.arm.identity}


def test_pictures_reach_the_model(fakes) -> None:
    grey = data_uri(Image.new("RGB", (4, 4), (77, 77, 77)))
    message = ChatMessageUser(content=[ContentImage(image=grey), ContentText(text="what?")])
    output = asyncio.run(model().generate([message]))
    assert output.completion == "to do it, <77> what? stop now"


def test_all_arms_share_one_host_and_are_never_mixed(fakes, tmp_path) -> None:
    arms = [
        model(),
        model(defense="stamp", artifact=stamp_artifact(tmp_path / "a", "one")),
        model(defense="stamp", artifact=stamp_artifact(tmp_path / "b", "two")),
    ]
    assert len({id(arm.api.host) for arm in arms}) == len(fakes) == 1
    assert len({arm.api.arm.identity for arm in arms}) == 3
    outputs = ask([(arms[i % 3], f"q{i}") for i in range(30)])
    for i, output in enumerate(outputs):
        stamp = ["", "[one] ", "[two] "][i % 3]
        assert output.completion == f"{stamp}to do it, q{i} stop now"


def test_after_the_answers_the_model_is_as_it_was(fakes, tmp_path) -> None:
    arm = model(defense="stamp", artifact=stamp_artifact(tmp_path / "a", "one"))
    vlm = arm.api.host.vlm
    before = dict(vars(vlm.model))
    ask([(arm, "q")])
    arm.api.host.batcher.close()
    with arm.api.host.lock:
        assert vars(vlm.model) == before
        assert vlm.stamp == ""


def test_the_identity_follows_content_not_place(fakes, tmp_path) -> None:
    def identity(**args: object) -> str:
        return model(defense="stamp", **args).api.arm.identity

    one = stamp_artifact(tmp_path / "a", "one")
    base = identity(artifact=one)
    assert identity(artifact=stamp_artifact(tmp_path / "copy", "one")) == base
    assert identity(artifact=one, batch_size=3) == base
    assert identity(artifact=stamp_artifact(tmp_path / "b", "two")) != base
    stamp_artifact(tmp_path / "a", "three")  # another content in the same place
    assert identity(artifact=one) != base


def test_dtype_settings_and_defense_change_the_identity(fakes, tmp_path) -> None:
    full = stamp_artifact(tmp_path / "a", "one")
    half = stamp_artifact(tmp_path / "b", "one", identity="fake bfloat16")
    identities = {
        model().api.arm.identity,
        model(dtype="bfloat16").api.arm.identity,
        model(defense="stamp", artifact=full).api.arm.identity,
        model(defense="stamp", artifact=half, dtype="bfloat16").api.arm.identity,
        model(defense="stamp", enabled=False).api.arm.identity,
    }
    assert len(identities) == 5


def test_inspects_answer_cache_tells_arms_apart(fakes, tmp_path) -> None:
    """Inspect's own key holds no model arguments, so `--cache` would mix defenses."""
    arms = [model(), model(defense="stamp", artifact=stamp_artifact(tmp_path / "a", "one"))]
    config = GenerateConfig(cache=True)
    for _ in range(2):
        plain, stamped = ask([(arm, "same question") for arm in arms], config)
        assert not plain.completion.startswith("[one]")
        assert stamped.completion.startswith("[one]")
    assert sum(len(batch) for batch in fakes["fake"].batches) == 2  # the second round was cached


def test_settings_reach_generate(fakes) -> None:
    arm = model()
    ask([(arm, "a")], GenerateConfig(max_tokens=3, stop_seqs=["stop"]))
    ask([(arm, "a")], GenerateConfig(temperature=0.5, top_p=0.8, top_k=4))
    ask([(arm, "a")], GenerateConfig(temperature=0.5, seed=1))
    greedy, sampled, seeded = fakes["fake"].settings
    assert (greedy["max_new_tokens"], greedy["do_sample"]) == (3, False)
    assert greedy["stop_strings"] == ["stop"]
    assert (sampled["do_sample"], sampled["temperature"], sampled["top_p"]) == (True, 0.5, 0.8)
    assert sampled["max_new_tokens"] == 8  # of the checkpoint's generation config
    assert not seeded["do_sample"]
    assert seeded["logits_processor"][0].seed == [1]


def test_a_stop_sequence_is_not_in_the_answer(fakes) -> None:
    output = ask([(model(), "a long one")], GenerateConfig(stop_seqs=["stop", "to"]))[0]
    assert (output.completion, output.stop_reason) == ("", "stop")


def test_different_settings_do_not_share_a_batch(fakes) -> None:
    async def both() -> None:
        arm = model()
        configs = [GenerateConfig(max_tokens=n) for n in (3, 4, 3, 4)]
        await asyncio.gather(*(arm.generate("q", config=config) for config in configs))

    asyncio.run(both())
    assert [len(batch) for batch in fakes["fake"].batches] == [2, 2]


def test_a_bad_row_fails_alone(fakes) -> None:
    async def three() -> list[object]:
        arm = model()
        questions = ["a", "unreadable", "b"]
        calls = (arm.generate(question) for question in questions)
        return await asyncio.gather(*calls, return_exceptions=True)

    first, bad, last = asyncio.run(three())
    assert isinstance(bad, InputError)
    assert (first.completion, last.completion) == (
        "to do it, a stop now",
        "to do it, b stop now",
    )


def test_a_bug_in_the_model_reaches_the_caller_and_the_next_batch_runs(fakes) -> None:
    arm = model()
    with pytest.raises(RuntimeError, match="a bug"):
        ask([(arm, "crash")])
    assert ask([(arm, "a")])[0].completion == "to do it, a stop now"


def test_batches_after_one_that_does_not_fit_are_smaller(fakes, monkeypatch) -> None:
    import torch

    arm = model(batch_size=8)
    vlm = arm.api.host.vlm
    encode = vlm.encode

    def small(batch: list[object], **kwargs: object) -> object:
        if len(batch) > 2:
            raise torch.OutOfMemoryError
        return encode(batch, **kwargs)

    monkeypatch.setattr(vlm, "encode", small)
    outputs = ask([(arm, f"q{i}") for i in range(8)])
    assert [o.completion for o in outputs] == [f"to do it, q{i} stop now" for i in range(8)]
    assert arm.api.host.batcher.size == 2
    assert arm.api.host.batcher.max_batch == 8, "for a while"


def test_tools_are_refused_in_words(fakes) -> None:
    tool = ToolInfo(name="look", description="look")
    with pytest.raises(InputError, match="do not take tools"):
        asyncio.run(model().generate("q", tools=[tool]))


def test_bad_arguments_are_errors_that_inspect_prints_as_a_sentence(fakes, tmp_path) -> None:
    one = stamp_artifact(tmp_path / "a", "one")
    other = stamp_artifact(tmp_path / "b", "one", identity="other")
    arguments: dict[str, dict[str, object]] = {
        "takes no artifact of 'stamp'": {"artifact": one},
        "was given two artifacts": {"defense": "stamp", "artifact": [one, one]},
        "no artifact folder": {"defense": "stamp", "artifact": str(tmp_path / "nowhere")},
        "was fitted on": {"defense": "stamp", "artifact": other},
        "no bundled artifact": {"defense": "stamp"},
        "lod": {"defense": "stamp", "lod": True},
        "single defense": {"defense": "stamp+safety_prompt", "loud": True},
    }
    for message, bad in arguments.items():
        with pytest.raises(PrerequisiteError, match=message) as caught:
            model(**bad)
        assert isinstance(caught.value.__cause__, SafesightError)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"defense": "stmp"}, "Did you mean 'stamp'"),
        ({"defense": "npo~int5"}, "Did you mean 'int"),
        ({"batch_size": 0}, "Use 1 or more"),
    ],
)
def test_what_needs_no_model_is_refused_before_one_is_loaded(fakes, bad, message) -> None:
    with pytest.raises(PrerequisiteError, match=message):
        model(**bad)
    assert fakes == {}


@pytest.mark.slow
def test_inspect_shows_a_misspelled_defense_as_one_sentence(tmp_path) -> None:
    words = "eval safesight/image_harm --model safesight/testbed -M defense=sassa"
    done = subprocess.run(
        [sys.executable, "-m", "inspect_ai", *words.split(), "--log-dir", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "500", "INSPECT_DISPLAY": "plain"},
    )
    assert done.returncode != 0
    said = (done.stdout + done.stderr).strip()
    assert said.startswith("There is no defense called 'sassa'. Did you mean 'sasa'?")
    assert "\n" not in said


def test_a_default_task_fills_batches(fakes) -> None:
    api = model(batch_size=6).api
    assert isinstance(api, SafesightAPI)
    assert api.max_connections() == 12
    assert api.connection_key() == model(defense="none").api.connection_key()


def test_pictures_are_not_kept_after_their_answer(fakes) -> None:
    size = (7, 13)
    held = Image.new("RGB", size)
    assert fake.alive(size) == 1
    message = ChatMessageUser(content=[ContentImage(image=data_uri(held))])
    del held
    asked = model()
    asyncio.run(asked.generate([message]))
    asked.api.host.batcher.cancel()  # returns once the thread has put its batch away
    assert fake.alive(size) == 0
