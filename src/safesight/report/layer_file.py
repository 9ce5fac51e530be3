"""Reads a layer report from its JSON file, and checks that it belongs to the logs it is shown with.

It only decides whether a file may be shown; `layer_page` makes the page. A report on a different
model would be taken for one on the model of the answers, so it is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from safesight.analysis import LayerReport
from safesight.errors import InputError

if TYPE_CHECKING:
    from safesight.compare import Scorecard

__all__ = ["check_same_model", "read_layers"]

_REMEDY = "Pass a file written by `safesight layers MODEL --json FILE`."


def read_layers(path: str | Path) -> LayerReport:
    """Read a layer report.

    Raises:
        InputError: there is no such file, or it is not a layer report.
    """
    try:
        return LayerReport.model_validate_json(Path(path).read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}). {_REMEDY}") from error
    except ValidationError as error:
        raise InputError(f"{path} is not a layer report ({_first(error)}). {_REMEDY}") from error


def check_same_model(report: LayerReport, card: Scorecard) -> None:
    """Refuse a layer report on a model other than the one that answered.

    If the logs do not identify their model, this cannot be checked. The page names the model of
    the layer report in either case.

    Raises:
        InputError: weights, configuration or dtype differ.
    """
    answered = card.provenance.model_identity
    if answered and report.identity and answered != report.identity:
        raise InputError(
            f"The layer report is of {report.model!r} ({report.identity[:12]}) and the logs are of "
            f"{card.model!r} ({answered[:12]}): weights, configuration or dtype differ. "
            "Run `safesight layers` on the model of the logs."
        )


def _first(error: ValidationError) -> str:
    """The first error, which is enough to show that it is the wrong file."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    what = first["msg"].removeprefix("Value error, ")
    return f"{place}: {what}" if place else what
