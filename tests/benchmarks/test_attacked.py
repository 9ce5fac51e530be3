"""A benchmark named together with attacks."""

from __future__ import annotations

import pytest

from safesight import registry
from safesight.benchmarks import describe_benchmark, draw_samples, load_benchmark
from safesight.errors import InputError, UnknownNameError


def test_samples_are_those_of_the_benchmark_under_attack() -> None:
    plain = load_benchmark("mirage_harm")(6, seed=2)
    attacked = load_benchmark("mirage_harm+one_word+prefill")(6, seed=2)
    assert [sample.facts["plain"] for sample in attacked] == [sample.id for sample in plain]
    assert all(sample.question.startswith("what ") for sample in attacked)
    assert {len(sample.shots) for sample in attacked} == {3}
    assert {sample.prefill for sample in attacked} == {"Sure,"}


def test_a_split_is_passed_on() -> None:
    attacked = load_benchmark("vqa+prefill")(2, seed=0, split="fit")
    assert attacked[0].id == "vqa/fit/0/0+prefill"


def test_samples_are_chosen_before_they_are_attacked() -> None:
    with pytest.raises(InputError, match="already has a picture"):
        load_benchmark("text_harm+typography")(6)
    drawn = draw_samples("text_harm+typography", 6, seed=0, only={"form": ["plain", "caption"]})
    assert [sample.facts["plain"].rpartition("/")[2] for sample in drawn] == ["0", "1", "3", "4"]


def test_it_is_described() -> None:
    assert describe_benchmark("vqa+prefill+one_word").endswith(
        "known answers. Under attack: prefill, one_word."
    )


@pytest.mark.parametrize("name", ["vqaa+prefill", "vqa+prefil", "vqa+", "+prefill"])
def test_unknown_parts_are_user_errors(name: str) -> None:
    with pytest.raises((UnknownNameError, InputError)):
        describe_benchmark(name)
    with pytest.raises(UnknownNameError):
        load_benchmark(name)(1)


def test_only_benchmarks_are_joined() -> None:
    with pytest.raises(UnknownNameError):
        registry.load("judge", "exact+keywords")


def test_an_attack_that_needs_more_than_a_name_is_a_user_error() -> None:
    with pytest.raises(InputError, match=r"needs arguments \(render\)"):
        load_benchmark("text_harm+picture")(1)
