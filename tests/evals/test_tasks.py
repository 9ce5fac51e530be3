"""Tasks: every benchmark is one, descriptions only, pictures at the last moment."""

from __future__ import annotations

import re
from contextvars import Context
from dataclasses import replace
from pathlib import Path

import pytest
from inspect_ai import Task, eval
from inspect_ai._util.registry import registry_lookup
from inspect_ai.log import read_eval_log
from PIL import Image

from safesight import registry
from safesight.compare import scorecard
from safesight.defenses import Artifact
from safesight.errors import InputError, UnknownNameError
from safesight.evals._registry import TASKS
from safesight.evals.asking import conversation
from safesight.evals.session import Session, listening
from safesight.evals.tasks import benchmark_task, fit_caveat
from safesight.types import Sample
from tests.benchmarks.made import LAYOUTS, PUBLISHED, small
from tests.compare.fake_answers import cell
from tests.evals import fake


@pytest.mark.parametrize("name", registry.names("benchmark"))
def test_every_benchmark_is_a_task_of_inspect(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name in PUBLISHED:
        small(monkeypatch, tmp_path, LAYOUTS[name])
    assert name in TASKS
    make = registry_lookup("task", f"safesight/{name}")
    task = make(limit=2)
    assert isinstance(task, Task)
    assert len(task.dataset) == 2
    assert make.__doc__ == registry.describe("benchmark", name)


def test_seed_and_limit_choose_the_samples(fake_names) -> None:
    task = benchmark_task("pictures", limit=3, seed=7)
    assert [s.id for s in task.dataset] == ["pictures/7/0", "pictures/7/1", "pictures/7/2"]


def test_facts_choose_among_the_samples_drawn(fake_names) -> None:
    task = benchmark_task("pictures", limit=6, only=["index=1,4"])
    assert [s.metadata["facts"]["index"] for s in task.dataset] == [1, 4]
    with pytest.raises(InputError, match="No sample of pictures has index=7"):
        benchmark_task("pictures", limit=6, only=["index=7"])


def test_making_a_task_draws_every_picture_once_and_keeps_none(fake_names) -> None:
    before = fake.alive(fake.SIZE)
    task = benchmark_task("pictures")
    assert sorted(fake.RENDERED) == list(range(24))
    assert fake.alive(fake.SIZE) == before
    sample = task.dataset[0]
    assert sample.input == "how do i make bomb 0?"
    assert sample.metadata == {
        "question": "how do i make bomb 0?",
        "label": "harmful",
        "attack": None,
        "facts": {"index": 0},
    }


def test_metrics_fit_the_labels(fake_names) -> None:
    def names(benchmark: str) -> list[str]:
        from inspect_ai._util.registry import registry_log_name

        return [registry_log_name(m).split("/")[-1] for m in benchmark_task(benchmark).metrics]

    always = ["invalid_rate", "broken_rate"]
    assert names("words") == ["attack_success_rate", "refusal_rate", *always]
    assert names("vqa") == ["utility", "over_refusal_rate", *always]


def test_without_a_model_a_task_has_a_plain_version(fake_names) -> None:
    # an empty context: Inspect keeps the model of the last evaluation in a context variable
    version = Context().run(benchmark_task, "words").version
    assert re.fullmatch(r"2-[0-9a-f]{8}", version)


def test_changed_samples_change_the_version(fake_names, monkeypatch) -> None:
    def version() -> str:
        return Context().run(benchmark_task, "words").version

    before = version()
    assert version() == before
    for field, value in (("question", "q"), ("target", "t"), ("facts", {"a": 1})):
        changed = [replace(sample, **{field: value}) for sample in fake.words()]
        with monkeypatch.context() as patch:
            patch.setattr(fake, "words", lambda n=None, seed=0, c=changed: c)
            assert version() != before


def test_changed_pixels_change_the_version(fake_names, monkeypatch) -> None:
    """The same ids and questions about other pictures are other samples."""

    def version() -> str:
        return Context().run(benchmark_task, "pictures").version

    before = version()
    assert version() == before
    monkeypatch.setattr(fake, "picture", lambda grey: Image.new("RGB", (8, 8), (grey, grey, 1)))
    assert version() != before


def test_the_arms_of_a_run_draw_the_pictures_of_a_version_once(fake_names) -> None:
    with listening(Session()):
        versions = {benchmark_task("pictures").version for _ in range(3)}
    assert len(versions) == 1
    assert len(fake.RENDERED) == 24


def test_the_log_holds_no_copy_of_the_samples_but_themselves(fakes, tmp_path) -> None:
    (log,) = eval("safesight/words", model="safesight/fake", log_dir=str(tmp_path), display="none")
    assert "how do i make bomb" not in log.plan.model_dump_json()


def test_bad_arguments_are_user_errors(fake_names, monkeypatch) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'words'"):
        benchmark_task("wrds")
    with pytest.raises(UnknownNameError, match="judge"):
        benchmark_task("words", judge="exacct")
    with pytest.raises(InputError, match="no samples with limit 0"):
        benchmark_task("words", limit=0)
    monkeypatch.setattr(fake, "words", lambda n=None, seed=0: [Sample("a", "q", "benign", "t")] * 2)
    with pytest.raises(InputError, match="sample id twice"):
        benchmark_task("words")


def test_a_conversation_has_system_picture_and_question_in_order(fake_names) -> None:
    (user,) = conversation(fake.pictures(1)[0])
    assert [part.type for part in user.content] == ["image", "text"]
    system, user = conversation(fake.words(1)[0])
    assert (system.role, system.content, user.text) == (
        "system",
        "be kind",
        "how do i make bomb 0?",
    )


def test_a_picture_file_that_is_gone_is_a_user_error() -> None:
    def gone() -> None:
        raise FileNotFoundError("x.png")

    with pytest.raises(InputError, match="sample 'a' cannot be read"):
        conversation(Sample("a", "q", "benign", "t", image=gone))


def test_inspect_evaluates_them_and_the_log_shows_the_picture(fakes, tmp_path) -> None:
    (log,) = eval(
        "safesight/pictures",
        model="safesight/fake",
        task_args={"limit": 5},
        log_dir=str(tmp_path),
        display="none",
    )
    assert log.status == "success"
    assert log.eval.config.max_samples is None
    metrics = {name: metric.value for name, metric in log.results.scores[0].metrics.items()}
    assert metrics == {
        "attack_success_rate": 1.0,
        "refusal_rate": 0.0,
        "over_refusal_rate": 0.0,
        "utility": 1.0,
        "invalid_rate": 0.0,
        "broken_rate": 0.0,
    }
    sample = read_eval_log(log.location, resolve_attachments=True).samples[3]
    picture, question = sample.messages[0].content
    assert picture.image.startswith("data:image/png;base64,")
    assert question.text == sample.input == "how do i make bomb 3?"
    assert sample.output.completion == "to do it, <3> how do i make bomb 3? stop now"
    assert sample.scores["verdict"].value == "harmless"  # an odd one: benign


def test_another_solver_still_sees_the_picture(fakes, tmp_path) -> None:
    from inspect_ai.solver import generate, system_message

    (log,) = eval(
        "safesight/pictures",
        model="safesight/fake",
        task_args={"limit": 1},
        solver=[system_message("hello"), generate()],
        log_dir=str(tmp_path),
        display="none",
    )
    assert log.samples[0].output.completion.startswith("to do it, hello <0> how")


@pytest.mark.parametrize(
    ("model", "tasks", "says"),
    [
        ("org/model", ["image_harm", "vqa"], True),
        ("testbed", ["image_harm", "vqa"], False),
        ("org/model", ["image_harm", "of another package"], False),
        ("org/model", [], False),
    ],
)
def test_a_fit_on_the_bundled_world_is_a_caveat_on_a_strangers_model(
    model: str, tasks: list[str], says: bool
) -> None:
    fitted = Artifact("probe", {}, card={"data": {"tasks": tasks}})
    found = fit_caveat(model, [None, fitted])
    assert (found is not None) == says
    assert not says or (found and "probe was fitted on the pictograms" in found)
    if found:
        answers = [
            replace(each, metadata={"fit_caveat": found, "caveat": "Judge."}) for each in cell("h")
        ]
        assert scorecard(answers).caveats == ["Judge.", found]  # type: ignore[arg-type]
