"""The house rules as functions from a source file to the sentences that say what is wrong.

Each returns an empty list when the rule holds. They run on the package in the other
files of this folder, and on broken examples in `test_rules_can_fail`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Set

import networkx as nx

from tests.house.source import Source

# Top to bottom; a room may import what stands below it, never its own level.
LEVELS = (
    {"__main__"},
    {"cli", "plugins"},
    {"workflows", "app"},
    {"vllm"},
    {"report", "experiments", "server"},
    {"analysis"},
    {"compare"},
    {"evals"},
    {"hosting"},
    {"adversary"},
    {"defenses", "attacks", "judges", "benchmarks", "testbed"},
    {"training"},
    {"generation"},
    {"fitting"},
    {"data"},
    {"models"},
    {"activations", "tools"},
    {"grammar"},
    {"registry"},
    {"builtin"},
    {"stats"},
    {"guests"},
    {"types", "console", "files", "grid", "records", "extras", "values"},
    {"ranks"},
    {"errors"},
)
_LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}

# Who may import a heavy library. A trailing dot means a whole room.
LIBRARY_USERS = {
    "transformers": (
        "safesight.models.",
        "safesight.training.trainer",
        "safesight.testbed.train",
        "safesight.testbed.architecture",
        "safesight.testbed.guidance",
        "safesight.testbed.measure",
        "safesight.testbed.smol.",
    ),
    "inspect_ai": ("safesight.evals.",),
    "fastapi": ("safesight.server.", "safesight.app.serving"),
    "openai": ("safesight.server.",),
    "starlette": ("safesight.server.",),
    "prometheus_client": ("safesight.server.metrics", "safesight.vllm.record"),
    "httpcore": ("safesight.server.",),
    "httpx": ("safesight.server.",),
    "typer": ("safesight.cli.",),
    "gradio": ("safesight.app.page", "safesight.app.serving"),
    "uvicorn": ("safesight.server.", "safesight.app.serving"),
    "lmms_eval": ("safesight.plugins.lmms_eval",),
    "vllm": ("safesight.vllm.",),
    "garak": ("safesight.plugins.garak",),
    "pyrit": ("safesight.plugins.pyrit",),
}

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_PARAMETERS = 8

# Signatures that another rule dictates, and why.
WIDE_SIGNATURES = {
    "safesight.evals.provider.__init__": "Inspect passes model arguments one by one",
    "safesight.models.vlm.load": "the options of from_pretrained, by their own names",
    "safesight.evals.run.run_eval": "the whole evaluation as one call, keyword by keyword",
}

# A broad except hides bugs, unless it cleans up and raises again. Beside those, these files
# may hold one each.
BROAD_EXCEPTS = {
    "safesight.generation.detectors": "fail closed: a detector that cannot run refuses",
    "safesight.vllm.judging": "fail closed: a detector that cannot run refuses",
    "safesight.models.check": "a self-check reports whatever goes wrong",
    "safesight.registry": "a package of others may fail in any way; the error names the package",
    "safesight.evals.damaged": "a damaged log may fail anywhere in the libraries that read it",
    "safesight.evals.endpoint": "a client may fail in any way; the error says that nobody answered",
    "safesight.evals.graded": "a provider may fail in any way; the grading then counts as failed",
    "safesight.app.asking": "what explains an answer may fail in any way; the answer is shown",
    "safesight.hosting.hosts": "one row must not fail the others of its batch; it gets the error",
    "safesight.hosting.batching": "a thread's border: the error goes to whoever waits for it",
}

SOURCES_OF_DEFAULTS = ("paper", "authors' code", "secondary", "ours")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def imports(source: Source) -> Iterator[tuple[int, str]]:
    """Line and absolute dotted name of everything imported, also inside functions and
    under TYPE_CHECKING; `from a import b` counts as `a.b`."""
    for line, name, _ in _imported(source):
        yield line, name


def _imported(source: Source) -> Iterator[tuple[int, str, str]]:
    """Beside line and dotted name also the name that it is bound to."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, alias.asname or alias.name.partition(".")[0]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = source.module.split(".")
                kept = len(parts) - node.level + source.is_package
                base = ".".join([*parts[:kept], *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}", alias.asname or alias.name


def upward_imports(source: Source) -> list[str]:
    wrong: list[str] = []
    if not source.room:  # the package itself offers names of every room, lazily
        return wrong
    for line, name in imports(source):
        room = _room_of(name)
        if room is None or room == source.room:
            continue
        if source.room not in _LEVEL:
            wrong.append(f"{source.module}:{line}: room {source.room!r} has no level in LEVELS")
        elif _LEVEL[room] <= _LEVEL[source.room]:
            wrong.append(f"{source.module}:{line}: {source.room} may not import {name}")
        elif room == "testbed":
            wrong.append(f"{source.module}:{line}: {name} is reached by name, through registry")
    return wrong


def import_circles(edges: Mapping[str, Set[str]]) -> list[str]:
    """Modules that import one another, whatever the way: at the top, in a function, for types."""
    graph = nx.DiGraph([(module, used) for module, all_used in edges.items() for used in all_used])
    circles = (sorted(group) for group in nx.strongly_connected_components(graph))
    return [" <-> ".join(group) for group in circles if len(group) > 1]


def imported_modules(source: Source, modules: Set[str]) -> set[str]:
    """The modules of ours that a file imports, itself not counted.

    A package's `__init__` counts only where nothing below it is named.
    """
    found = set()
    for _, name in imports(source):
        while name and name not in modules:
            name = name.rpartition(".")[0]
        found.add(name)
    return found - {"", source.module}


def shadowed_modules(source: Source, modules: Set[str]) -> list[str]:
    """Modules that cannot be reached as attributes: their package has a function or class of the
    same name, so `import a.b as b` and `a.b` give the one or the other by the order of imports."""
    if not source.is_package:
        return []
    bound = dict.fromkeys([*exports(source), *definitions(source)], "")
    bound |= {name: origin for _, origin, name in _imported(source)}
    hidden = {f"{source.module}.{name}": origin for name, origin in bound.items()}
    return [
        f"{source.module}: hides the module {module} behind a name of its own; rename the module"
        for module, origin in hidden.items()
        if module in modules and module != origin
    ]


def _room_of(name: str) -> str | None:
    """The room an imported name belongs to, or None if it is not one of ours."""
    parts = name.split(".")
    if parts[0] != "safesight" or len(parts) < 2:
        return None
    return parts[1] if parts[1] in _LEVEL else None


def library_imports(source: Source) -> list[str]:
    wrong = []
    for line, name in imports(source):
        library = name.split(".")[0]
        users = LIBRARY_USERS.get(library)
        if users is None:
            continue
        place = f"{source.module}." if source.is_package else source.module
        if not any(place == user or (user[-1] == "." and place.startswith(user)) for user in users):
            wrong.append(f"{source.module}:{line}: only {', '.join(users)} may import {library}")
    return wrong


def missing_docstrings(source: Source) -> list[str]:
    """Modules, and the public names they export."""
    wrong = []
    if not _sentence(ast.get_docstring(source.tree)):
        wrong.append(f"{source.module}: opens without a docstring whose first line is a sentence")
    exported = set(exports(source))
    for node in source.tree.body:
        if not isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        overload = "overload" in map(ast.unparse, node.decorator_list)
        if node.name in exported and not overload:
            wrong += _undocumented(source, node)
    return wrong


def _undocumented(source: Source, node: ast.ClassDef | Function) -> list[str]:
    wrong = []
    if not _sentence(ast.get_docstring(node)):
        wrong.append(f"{source.module}:{node.lineno}: {node.name} has no docstring")
    if isinstance(node, ast.ClassDef):
        for member in node.body:
            public = isinstance(member, Function) and not member.name.startswith("_")
            if public and not _sentence(ast.get_docstring(member)):
                wrong.append(
                    f"{source.module}:{member.lineno}: {node.name}.{member.name} has no docstring"
                )
    return wrong


def _sentence(docstring: str | None) -> bool:
    """The first paragraph ends as a sentence does, or introduces what follows."""
    if not docstring:
        return False
    return docstring.strip().split("\n\n")[0].rstrip().endswith((".", ":", "?", "!"))


def exports(source: Source) -> list[str]:
    """The names in `__all__`, in order; empty without one."""
    for node in source.tree.body:
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets
        ):
            return [str(name) for name in ast.literal_eval(node.value)]
    return []


def bad_exports(source: Source) -> list[str]:
    """`__all__` exists where something public is defined, and names only what is there and
    nothing private. What it leaves out is shared inside its room only."""
    wrong = []
    exported = exports(source)
    defined = _defined(source)
    for name in exported:
        if name not in defined and not (source.is_package and "__getattr__" in defined):
            wrong.append(f"{source.module}: __all__ names {name}, which is not there")
        if name.startswith("_") and name != "__version__":
            wrong.append(f"{source.module}: __all__ names {name}, which is private")
    public = [name for name in definitions(source) if not name.startswith("_") and name != "main"]
    if public and not exported:
        wrong.append(f"{source.module}: defines {public[0]} and has no __all__")
    return wrong


def definitions(source: Source) -> list[str]:
    """Classes and functions at the top level."""
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return [node.name for node in source.tree.body if isinstance(node, kinds)]


def _defined(source: Source) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(source.tree):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {alias.asname or alias.name for alias in node.names}
    return names


def oversize(source: Source) -> list[str]:
    wrong = []
    lines = source.text.count("\n")
    if lines > MAX_FILE_LINES:
        wrong.append(f"{source.module}: {lines} lines, more than {MAX_FILE_LINES}")
    for node in ast.walk(source.tree):
        if not isinstance(node, Function):
            continue
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        if length > MAX_FUNCTION_LINES:
            wrong.append(
                f"{source.module}:{node.lineno}: {node.name} has {length} lines, "
                f"more than {MAX_FUNCTION_LINES}"
            )
    return wrong


def too_many_parameters(source: Source) -> list[str]:
    """A command of the CLI is exempt: its parameters are its options."""
    wrong = []
    for node in ast.walk(source.tree):
        if not isinstance(node, Function) or source.room == "cli":
            continue
        arguments = node.args
        names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
        count = len([name for name in names if name not in ("self", "cls")])
        if count > MAX_PARAMETERS and f"{source.module}.{node.name}" not in WIDE_SIGNATURES:
            wrong.append(
                f"{source.module}:{node.lineno}: {node.name} takes {count} parameters, "
                f"more than {MAX_PARAMETERS}"
            )
    return wrong


def broad_excepts(source: Source) -> list[str]:
    lines = [
        node.lineno
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ExceptHandler)
        and _is_broad(node.type)
        and not (isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None)
    ]
    if len(lines) <= (source.module in BROAD_EXCEPTS):
        return []
    return [f"{source.module}:{line}: catches everything; name what you expect" for line in lines]


def _is_broad(caught: ast.expr | None) -> bool:
    if isinstance(caught, ast.Tuple):
        return any(map(_is_broad, caught.elts))
    return caught is None or (
        isinstance(caught, ast.Name) and caught.id in ("Exception", "BaseException")
    )


def unlabelled_defaults(source: Source) -> list[str]:
    """Every field of a defense's Config says where its default comes from."""
    wrong = []
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.ClassDef) or not node.name.endswith("Config"):
            continue
        for field, following in zip(node.body, [*node.body[1:], None], strict=True):
            if not isinstance(field, ast.AnnAssign) or "ClassVar" in ast.unparse(field.annotation):
                continue
            text = following.value.value if _is_string(following) else ""
            if not re.search(rf"Source: ({'|'.join(SOURCES_OF_DEFAULTS)})\b", text):
                wrong.append(
                    f"{source.module}:{field.lineno}: {node.name}.{ast.unparse(field.target)} "
                    f"does not end in 'Source: {' | '.join(SOURCES_OF_DEFAULTS)}'"
                )
    return wrong


def _is_string(node: ast.stmt | None) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def leftovers(source: Source) -> list[str]:
    """Marks of unfinished work."""
    wrong = [
        f"{source.module}:{number}: {found.group()} marks unfinished work"
        for number, line in enumerate(source.text.splitlines(), 1)
        if (found := re.search(r"\b(TODO|FIXME|XXX|HACK)\b", line))
    ]
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Raise) and "NotImplementedError" in ast.unparse(node):
            wrong.append(f"{source.module}:{node.lineno}: raises NotImplementedError")
    return wrong
