"""What an operator may write under "safesight", and which versions of vLLM it is for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from safesight.errors import InputError, ModelError
from safesight.vllm.about import About
from safesight.vllm.request_check import check_request
from safesight.vllm.settings import settings_of
from safesight.vllm.versions import check_version, suffix


def config(more: Any) -> Any:
    return SimpleNamespace(additional_config=more)


@pytest.mark.parametrize("more", [{}, {"other": 1}, None, object()])
def test_an_engine_without_an_entry_is_left_alone(more: Any) -> None:
    assert settings_of(config(more)) is None


@pytest.mark.parametrize("given", [{}, None, {"defenses": []}, {"per_request": True}, "sasa", []])
def test_an_entry_that_names_no_defense_is_an_error_and_not_an_undefended_engine(given) -> None:
    with pytest.raises(InputError, match="names safesight and no defense"):
        settings_of(config({"safesight": given}))


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({"defenses": [{"artifact": "a"}]}, "defenses.0.name"),
        ({"defenses": ["sasa"]}, "defenses.0"),
        ({"defenses": [{"name": "sasa"}], "perrequest": True}, "perrequest"),
        ({"defenses": [{"name": "sasa"}], "per_request": "sometimes"}, "per_request"),
    ],
)
def test_a_mistake_is_named(given: Any, place: str) -> None:
    with pytest.raises(InputError, match=f"invalid safesight.{place}"):
        settings_of(config({"safesight": given}))


def test_an_entry_may_hold_settings_of_its_defense() -> None:
    entry = {"name": "refusal_direction", "artifact": "a", "gate": "projection"}
    found = settings_of(config({"safesight": {"defenses": [entry]}}))
    assert found is not None
    assert found.defenses[0].config == {"gate": "projection"}


def test_versions() -> None:
    check_version("0.32.0", allowed=False)
    check_version("0.99.0", allowed=True)
    with pytest.raises(ModelError, match="allow_unvalidated"):
        check_version("0.33.0", allowed=False)
    assert suffix("0.32.0") != suffix("0.32.1")
    assert suffix("0.32.1.dev0+cpu").isidentifier()


def params(wanted: Any = None, **sampling: Any) -> Any:
    plain = {"max_tokens": 16, "logprobs": None, "detokenize": True}
    more = None if wanted is None else {"safesight": wanted}
    return SimpleNamespace(extra_args=more, **plain | sampling)


def about(may: bool) -> About:
    return About(defenses={"probe": "a1"}, per_request=may)


@pytest.mark.parametrize("may", [True, False])
def test_a_request_may_say_what_it_has_anyway(may: bool) -> None:
    check_request(params(), about(may))
    check_request(params("on"), about(may))


@pytest.mark.parametrize("wanted", ["none", "OFF", False, 0, ["off"], {}, ""])
@pytest.mark.parametrize("may", [True, False])
def test_anything_else_is_an_error_of_the_client(wanted: Any, may: bool) -> None:
    with pytest.raises(ValueError, match="can be 'on' or 'off'"):
        check_request(params(wanted), about(may))


def test_off_only_where_it_is_allowed() -> None:
    check_request(params("off"), about(True))
    with pytest.raises(ValueError, match="does not let a request turn its defenses off"):
        check_request(params("off"), about(False))


def test_a_step_of_beam_search_is_refused_and_its_neighbours_are_not() -> None:
    step = {"max_tokens": 1, "logprobs": 4, "detokenize": False}
    with pytest.raises(ValueError, match="Beam search cannot be defended"):
        check_request(params(**step), about(True))
    for other in ({"max_tokens": 2}, {"logprobs": None}, {"detokenize": True}):
        check_request(params(**step | other), about(True))


@pytest.mark.parametrize("asked", [{"prompt_logprobs": 0}, {"prompt_logprob_token_ids": [3]}])
def test_probabilities_of_a_prompt_are_refused(asked: dict[str, Any]) -> None:
    """They would tell the next word that a refused request was to get."""
    with pytest.raises(ValueError, match="Log-probabilities of a prompt"):
        check_request(params(**asked), about(True))
    check_request(params("off", **asked), about(True))


@pytest.mark.parametrize("may", [True, False])
def test_a_request_that_asks_for_the_defenses_gets_them_and_no_answer(may: bool) -> None:
    with pytest.raises(ValueError, match="The defenses of this server") as told:
        check_request(params("describe"), about(may))
    assert About.in_answer(str(told.value)) == about(may)


UNDEFENDED = About(defenses={}, per_request=False, template={"safety_prompt": "a1"})


def test_an_engine_without_defenses_refuses_what_is_about_its_defenses() -> None:
    check_request(params(), UNDEFENDED)
    check_request(params("on"), UNDEFENDED)
    with pytest.raises(ValueError, match="does not let a request turn its defenses off"):
        check_request(params("off"), UNDEFENDED)
    with pytest.raises(ValueError, match="or 'describe'"):
        check_request(params("maybe"), UNDEFENDED)
    with pytest.raises(ValueError, match="The defenses of this server") as told:
        check_request(params("describe"), UNDEFENDED)
    assert About.in_answer(str(told.value)) == UNDEFENDED


def test_an_engine_without_defenses_has_all_else_that_vllm_offers() -> None:
    check_request(params(max_tokens=1, logprobs=4, detokenize=False), UNDEFENDED)
    check_request(params(prompt_logprobs=0), UNDEFENDED)


def test_an_entry_may_name_no_defense_as_none() -> None:
    given = {"defenses": [{"name": "none"}], "template": ["safety_prompt"]}
    found = settings_of(config({"safesight": given}))
    assert found is not None
    assert not found.defended
