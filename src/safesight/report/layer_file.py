"""A look inside read back from its JSON, and held against the logs it is to stand beside.

It decides whether a file may be shown, and shows nothing: the page is `layer_page`. A look at
another model beside these answers would be believed, so it is refused.
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

_REMEDY = "Pass a file that `safesight layers MODEL --json FILE` wrote."


def read_layers(path: str | Path) -> LayerReport:
    """The look that a file holds.

    Raises:
        InputError: there is no such file, or it holds something else.
    """
    try:
        return LayerReport.model_validate_json(Path(path).read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}). {_REMEDY}") from error
    except ValidationError as error:
        raise InputError(f"{path} is not a layer report ({_first(error)}). {_REMEDY}") from error


def check_same_model(report: LayerReport, card: Scorecard) -> None:
    """Refuse a look at another model than the one that answered.

    Where logs are silent about their model nothing can be held against it. The page says which
    model was looked at in either case.

    Raises:
        InputError: weights, configuration or dtype differ.
    """
    answered = card.provenance.model_identity
    if answered and report.identity and answered != report.identity:
        raise InputError(
            f"The layer report is of {report.model!r} ({report.identity[:12]}) and the logs are of "
            f"{card.model!r} ({answered[:12]}): weights, configuration or dtype differ. "
            "Look inside the model of the logs with `safesight layers`."
        )


def _first(error: ValidationError) -> str:
    """The first thing that is wrong: one is enough to see that the file is another."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    what = first["msg"].removeprefix("Value error, ")
    return f"{place}: {what}" if place else what
