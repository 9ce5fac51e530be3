"""Assembles a template, a style sheet and scripts into one self-contained file.

The file needs no network: figures are SVG, fonts are the reader's own, pictures are data URIs. Its
content security policy forbids all other sources and allows only the page's own scripts, by hash.
So nothing that a model wrote could run even if it were not escaped, and everything is escaped.
Templates, styles and scripts are in `page/`.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from safesight.report.pictures import picture_size

__all__ = ["assemble"]

_NONE = "'none'"


def assemble(template: str, *, style: str, scripts: Sequence[str] = (), **values: Any) -> str:
    """The page as text.

    Args:
        template: Name of a file in `page/`; it uses `style`, `scripts` and `policy`.
        style: Name of a style sheet in `page/`.
        scripts: Names of scripts in `page/`.
        **values: Further values for the template.
    """
    texts = [_page_file(name) for name in scripts]
    page: str = _template(template).render(
        **values,
        style=Markup(_page_file(style)),
        scripts=[Markup(text) for text in texts],
        policy=_policy(texts),
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
    environment.filters["size"] = picture_size
    return environment.get_template(name)


def _page_file(name: str) -> str:
    return (resources.files("safesight.report") / "page" / name).read_text(encoding="utf-8")


def _policy(scripts: Iterable[str]) -> str:
    hashes = " ".join(
        "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"
        for text in scripts
    )
    return (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src {hashes or _NONE}; base-uri 'none'; form-action 'none'"
    )


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True)
