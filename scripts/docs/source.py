"""Reads docstrings from source text, so that generating a page does not import torch."""

from __future__ import annotations

import ast
import re
from pathlib import Path


def first_sentence(docstring: str | None) -> str:
    """The text up to the first full stop that ends a sentence, on one line."""
    text = " ".join((docstring or "").split("\n\n")[0].split())
    match = re.match(r".+?[.!?:](?=\s+[A-Z`]|$)", text)
    return match.group() if match else text


def documented(path: Path) -> dict[str, str]:
    """Every documented top-level name, with its docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: dict[str, str] = {}
    for node, after in zip(tree.body, [*tree.body[1:], None], strict=True):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            found[node.name] = ast.get_docstring(node) or ""
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                found[ast.unparse(target)] = string_of(after)
    return found


def module_docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


def exported(path: Path) -> list[str]:
    """`__all__`, or nothing."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return [str(name) for name in ast.literal_eval(node.value)]
    return []


def string_of(node: ast.stmt | None) -> str:
    """The text of a statement that is only a string, else the empty string."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        value = node.value.value
        return value if isinstance(value, str) else ""
    return ""


def config_fields(path: Path, name: str) -> list[tuple[str, str, str]]:
    """Field, default as written, and docstring of a Config class in a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef) and node.name == name:
            break
    else:
        return []
    fields = []
    for field, after in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(field, ast.AnnAssign) and "ClassVar" not in ast.unparse(field.annotation):
            fields.append((ast.unparse(field.target), _default(field.value), string_of(after)))
    return fields


def _default(value: ast.expr | None) -> str:
    if isinstance(value, ast.Call) and value.args:
        value = value.args[0]
    return "required" if value is None else ast.unparse(value)


def keys_of(path: Path, name: str) -> list[str]:
    """The keys of a dictionary literal `name = {...}` in a file."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
        if name in map(ast.unparse, targets) and isinstance(node, ast.Assign | ast.AnnAssign):
            assert isinstance(node.value, ast.Dict)
            return [str(ast.literal_eval(key)) for key in node.value.keys if key is not None]
    raise LookupError(f"{path} has no {name}")
