"""Assembles a template, a style sheet and scripts into one self-contained file.

The file needs no network: Plotly is included, fonts are the reader's own, pictures are data URIs.
Its content security policy forbids all other sources and allows only the page's own scripts, by
hash. So nothing that a model wrote could run even if it were not escaped, and everything is
escaped. Templates, styles and scripts are in `page/`.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from safesight.extras import need

__all__ = ["assemble"]


def assemble(
    template: str, *, style: str, scripts: Sequence[str], data: Mapping[str, Any], **values: Any
) -> str:
    """The page as text.

    Args:
        template: Name of a file in `page/`; it uses `style`, `scripts`, `policy`, `islands`.
        style: Name of a style sheet in `page/`.
        scripts: Names of scripts in `page/`; they run after Plotly, which they share.
        data: Data for the scripts: JSON values by element id.
        **values: Further values for the template.
    """
    texts = {"plotly": _plotly(), **{name: _page_file(name) for name in scripts}}
    page: str = _template(template).render(
        **values,
        islands={key: _json_island(value) for key, value in data.items()},
        style=Markup(_page_file(style)),
        scripts={name: Markup(text) for name, text in texts.items()},
        policy=_policy(texts.values()),
    )
    return page


def _template(name: str) -> Any:
    # Undefined names are our own bugs; autoescape ensures that answers stay text.
    environment = Environment(
        loader=FunctionLoader(_page_file),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["pretty"] = _pretty
    environment.filters["words"] = lambda name: name.replace("_", " ")
    return environment.get_template(name)


def _page_file(name: str) -> str:
    return (resources.files("safesight.report") / "page" / name).read_text(encoding="utf-8")


def _plotly() -> str:
    need("plotly", "report", "A page with figures")
    from plotly.offline import get_plotlyjs

    # A closing tag inside the library's strings would end the script early.
    return str(get_plotlyjs()).replace("</script", "<\\/script")


def _policy(scripts: Iterable[str]) -> str:
    hashes = " ".join(
        "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"
        for text in scripts
    )
    return (
        f"default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src {hashes}; "
        "base-uri 'none'; form-action 'none'"
    )


def _json_island(data: Any) -> Markup:
    """JSON for a data script element, escaped so that it cannot end the element."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True)
