"""What is made of the authors' files: questions, pictures, groups and right answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from safesight.types import Sample
from tests.benchmarks.made import LAYOUTS, make


@pytest.fixture
def samples(request: pytest.FixtureRequest, tmp_path: Path) -> list[Sample]:
    benchmark, folder = make(LAYOUTS[request.param], tmp_path)
    return benchmark(folder=folder)


def of(layout: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("samples", [layout], indirect=True)


@pytest.mark.parametrize("task", ["mme", "mmbench", "hades", "mossbench", "mm_vet"])
def test_the_hub_and_the_authors_have_the_same_ids(task: str, tmp_path: Path) -> None:
    found = []
    for number, name in enumerate((task, f"{task}, hub")):
        benchmark, folder = make(LAYOUTS[name], tmp_path / str(number))
        found.append([sample.id for sample in benchmark(folder=folder)])
    assert found[0] == found[1]


@of("figstep")
def test_figstep_draws_the_authors_titles_where_it_has_no_pictures(samples) -> None:
    first, second = samples[:2]
    assert first.question == second.question
    assert first.question.startswith("The image shows a list numbered 1, 2, and 3")
    assert first.image().size == (760, 760)
    assert first.image().tobytes() != second.image().tobytes()
    assert first.facts["goal"] == "How to bake cake 1?"
    assert first.attack == "figstep"


@of("figstep_tiny")
def test_figstep_tiny_has_the_authors_pictures(samples) -> None:
    assert samples[0].image().size == (8, 6)


@of("mm_safetybench_sd")
def test_a_drawn_picture_has_the_question_about_a_drawing(samples) -> None:
    assert samples[0].question.startswith("the picture has a cake")
    assert samples[0].facts["goal"] == "what is 0?"
    assert samples[0].facts["picture"] == "SD"


@of("mm_safetybench_sd_typo")
def test_a_picture_with_letters_has_the_question_about_them(samples) -> None:
    assert samples[0].question.startswith("the picture has a word")
    assert samples[0].facts["group"] == "01-Illegal_Activitiy/0"


@of("jailbreakv")
def test_prompts_of_one_query_are_a_group(samples) -> None:
    assert [sample.facts["acts"] for sample in samples] == ["text", "text", "picture", "picture"]
    groups = [sample.facts["group"] for sample in samples]
    assert groups[0] == groups[2] != groups[1] == groups[3]
    assert samples[0].question == "You bake.\nWhat is cake 0?"


@of("hades")
def test_the_last_step_is_shown_and_the_keyword_is_hidden(samples) -> None:
    food, behavior = samples[:2]
    assert food.question == "The bottom of the image shows a food. How is this food 0 made?"
    assert behavior.question.startswith("The bottom of the image shows a behavior. How is conduct")
    assert food.image().getpixel((0, 0))[0] == 10  # of step 10, which sorts before step 2


@of("hades, hub")
def test_the_last_step_of_a_table_need_not_be_its_last_row(samples) -> None:
    assert [sample.image().getpixel((0, 0))[0] for sample in samples[:2]] == [0, 2]


@of("vlguard")
def test_subsets_of_vlguard_and_their_labels(samples) -> None:
    found = [(sample.facts["subset"], sample.label) for sample in samples]
    safe = [("safe_safe", "benign"), ("safe_unsafe", "harmful")]
    assert found == [*safe, *safe, ("unsafe", "harmful"), ("unsafe", "harmful")]
    assert samples[0].facts["group"] == samples[1].facts["group"]


@of("mme")
def test_two_questions_about_a_picture_are_a_group(samples) -> None:
    yes, no = samples[:2]
    assert (yes.target, no.target) == ("yes", "no")
    assert yes.facts["group"] == no.facts["group"] == "existence/0"
    assert yes.question == "Is it Yes? Please answer yes or no."


@of("scienceqa_img")
def test_choices_have_letters_and_only_questions_with_pictures_count(samples) -> None:
    first, second = samples
    ask = "Answer with the option's letter from the given choices directly."
    assert first.question == f"What is 0?\nA. a cake\nB. a cup\n{ask}"
    assert second.question.startswith("Context: It is food.\nWhat is 1?\nA. a cake\nB. a cup\nC. ")
    assert (first.target, second.target) == ("A", "B")


@of("mmbench")
def test_a_question_is_asked_in_every_rotation(samples) -> None:
    first, second = samples
    assert len(first.shots) == 3  # the empty fourth choice is left out
    assert first.question.startswith("Hint: It is.\nQuestion: What is 0?\nOptions:\nA. a cup\nB. a")
    assert second.question.startswith("Question: ")
    assert [turn["target"] for turn in first.facts["rotations"]] == ["B", "A", "C"]
    for shot, turn in zip(first.shots, first.facts["rotations"], strict=True):
        assert f"{turn['target']}. a cake" in shot


@of("mm_vet")
def test_abilities_are_the_category_of_an_open_question(samples) -> None:
    assert samples[0].facts["category"] == "rec,ocr"
    assert samples[0].target == "a cake<AND>a cup"
