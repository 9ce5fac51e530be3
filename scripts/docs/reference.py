"""docs/reference/api.md: every public name of every file, with its first sentence."""

from __future__ import annotations

from pathlib import Path

from scripts.docs.source import documented, exported, first_sentence, module_docstring

_HEAD = """# Reference

Every public name, with the first sentence of its docstring. Made by `make docs`; the docstrings
themselves say more: `python -c "help('safesight.NAME')"`.
"""


def render(source: Path) -> str:
    """The page."""
    parts = [_HEAD]
    for path in sorted((source / "safesight").rglob("*.py")):
        names = documented(path)
        public = [name for name in exported(path) if name in names and name != "__version__"]
        if not public:
            continue
        module = ".".join(path.relative_to(source).with_suffix("").parts)
        module = module.removesuffix(".__init__")
        parts.append(f"\n## {module}\n\n{first_sentence(module_docstring(path))}\n\n")
        parts += [f"- `{name}`: {first_sentence(names[name])}\n" for name in public]
    return "".join(part.replace(": \n", "\n") for part in parts)
