"""The parts of the page that safesight writes itself, as HTML: examples, answers, figures.

Everything is escaped by the templates in `page/`, so what a model or a visitor wrote stays text.
Figures are SVG and pictures data URIs: nothing is fetched from anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from safesight import registry
from safesight.analysis.risk_map import RiskMap, draw
from safesight.app.asking import Look, Reply
from safesight.app.examples import Example
from safesight.app.figures import Gauge, curve_figure, gauge, shown_name
from safesight.report.pictures import to_data_uri

__all__ = [
    "about_html",
    "answers_html",
    "error_html",
    "examples_html",
    "head_html",
    "page_file",
    "start_html",
]


@dataclass(frozen=True)
class _Heat:
    uri: str | None
    """None if the tokens of the picture have no grid."""
    sentence: str


def head_html(model: str, where: str) -> str:
    """The head of the page.

    Args:
        model: Its name.
        where: The device and the type of the weights.
    """
    return _written("head.html.j2", model=model, where=where)


def examples_html(examples: Sequence[Example]) -> str:
    """Buttons with a picture and a question each; the page learns which one was pressed."""
    shown = [(each.question, [to_data_uri(p) for p in each.pictures]) for each in examples]
    return _written("examples.html.j2", examples=shown)


def about_html(names: Sequence[str]) -> str:
    """What each defense does, folded away.

    Args:
        names: The arms that can be chosen; those of several defenses are left out.
    """
    known = set(registry.names("defense"))
    about = [(each, registry.describe("defense", each)) for each in names if each in known]
    return _written("about.html.j2", about=about)


def start_html() -> str:
    """What stands in place of answers before the first question."""
    return _written("start.html.j2")


def error_html(sentence: str) -> str:
    """A sentence in place of answers."""
    return _written("error.html.j2", sentence=sentence)


def answers_html(replies: Sequence[Reply], look: Look | None = None) -> str:
    """The answers side by side, then the figures.

    Args:
        replies: One for each arm.
        look: What explains them; None while it is measured.
    """
    return _written(
        "answers.html.j2",
        replies=replies,
        gauges=list(_gauges(replies, look)),
        heats=[_heat(each) for each in look.maps] if look else [],
        no_map=look.no_map if look else None,
        curve=curve_figure(look.curve) if look and look.curve else None,
        remarks=look.remarks if look else (),
        waiting=look is None,
    )


def page_file(name: str) -> str:
    """The text of a file of `page/`."""
    return (resources.files("safesight.app") / "page" / name).read_text(encoding="utf-8")


def _gauges(replies: Sequence[Reply], look: Look | None) -> Iterator[tuple[str, Gauge | None]]:
    """The figure of each detector, with its name and that of the arm that it is in."""
    clouds = look.clouds if look else {}
    for reply in replies:
        for score in reply.scores:
            name = shown_name(score.detector)
            if score.detector != reply.arm:
                name += f" in {shown_name(reply.arm)}"
            yield name, gauge(score, clouds.get((reply.arm, score.detector)))


def _heat(seen: RiskMap) -> _Heat:
    facts = seen.summary()
    words = ", ".join(f"{word} ({score:.2f})" for word, score in list(facts["words"].items())[:3])
    sentence = f"RAI moves {facts['moved']} of {facts['visual_tokens']} visual tokens"
    sentence += f", toward {words}." if words else "."
    if seen.grid is None:
        sentence += " The model splits this picture into tiles, so its tokens have no place in it."
    return _Heat(None if seen.grid is None else to_data_uri(draw(seen)), sentence)


@cache
def _environment() -> Environment:
    found = Environment(
        loader=FunctionLoader(page_file),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["shown"] = shown_name
    return found


def _written(template: str, **values: Any) -> str:
    text: str = _environment().get_template(template).render(**values)
    return text
