"""The documentation says what is so: pages are current, snippets run, names and links exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path

import pytest

from safesight import registry
from scripts.docs import cli_pages, fills
from scripts.docs.pages import ROOT, Generated, generate, markdown, stale
from scripts.docs.results import Results

PAGES = [str(path.relative_to(ROOT)) for path in markdown()]
RUN = "<!-- snippets: run -->"


def snippets(text: str, language: str) -> Iterator[tuple[int, str]]:
    """First line number and body of every code block in a language."""
    for match in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        yield text.count("\n", 0, match.start(1)) + 1, match.group(1)


def bad_names(text: str) -> list[str]:
    """Dotted names in backticks that can neither be imported nor declared as an entry point."""
    return [
        name
        for name in sorted(set(re.findall(r"`(safesight(?:\.\w+)+)(?:\(\))?`", text)))
        if name not in registry.GROUPS.values() and not _exists(name)
    ]


def _exists(name: str) -> bool:
    module, found = name.split("."), []
    while module:
        try:
            value: object = import_module(".".join(module))
        except ModuleNotFoundError:
            found.insert(0, module.pop())
            continue
        for part in found:
            if not hasattr(value, part):
                return False
            value = getattr(value, part)
        return True
    return False


def bad_links(text: str, folder: Path) -> list[str]:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
    return [link for link in links if "://" not in link and not (folder / link).exists()]


def bad_commands(text: str, tree: Mapping[str, set[str]]) -> list[str]:
    """Lines that call safesight with a command or an option it does not have."""
    wrong = []
    for language in ("bash", "console", "sh"):
        for _, body in snippets(text, language):
            for line in body.replace("\\\n", " ").splitlines():
                words = shlex.split(line.removeprefix("$ "), comments=True)
                if words[:1] and Path(words[0]).name == "safesight":
                    wrong += _bad_words(words[1:], tree, line)
    return wrong


def _bad_words(words: list[str], tree: Mapping[str, set[str]], line: str) -> list[str]:
    if not words or words[0].startswith("-"):
        return []
    if words[0] not in tree:
        return [f"{line}: there is no command {words[0]}"]
    options = [word.partition("=")[0] for word in words if re.match(r"-[-a-zA-Z]", word)]
    return [f"{line}: no option {option}" for option in options if option not in tree[words[0]]]


@pytest.fixture(scope="module")
def generated() -> Generated:
    return generate()


@pytest.fixture(scope="module")
def tree() -> dict[str, set[str]]:
    return cli_pages.command_tree()


def test_generated_pages_are_current(generated: Generated) -> None:
    pages = [str(path.relative_to(ROOT)) for path in stale(generated.pages)]
    assert not pages, f"run `make docs`: {', '.join(pages)}"


def test_every_number_is_from_a_committed_run(generated: Generated) -> None:
    assert not generated.missing, "run `make results`: " + "; ".join(generated.missing)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_true(page: str, tree: dict[str, set[str]]) -> None:
    path = ROOT / page
    text = path.read_text(encoding="utf-8")
    assert bad_names(text) == []
    assert bad_links(text, path.parent) == []
    assert bad_commands(text, tree) == []
    for line, body in snippets(text, "python"):
        compile("\n" * (line - 1) + body, page, "exec")


@pytest.mark.parametrize(
    "page", [page for page in PAGES if RUN in (ROOT / page).read_text(encoding="utf-8")]
)
def test_the_snippets_of_a_page_run(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In order, in one namespace, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "snippet"}
    for line, body in snippets((ROOT / page).read_text(encoding="utf-8"), "python"):
        exec(compile("\n" * (line - 1) + body, page, "exec"), names)


def test_the_readme_runs_its_snippets() -> None:
    assert RUN in (ROOT / "README.md").read_text(encoding="utf-8")


def vendors_numbers(text: str) -> list[str]:
    """What stands in a page as a vendor's blog gives it: numbers that are not the paper's."""
    return re.findall(r"interce.*98\.4|98\.4.*interce|98\.4%.*53\.1|\+100 ms", text)


def test_no_page_prints_the_vendors_table() -> None:
    """Numbers of a vendor's blog must not be taken for the paper's."""
    for page in PAGES:
        assert not vendors_numbers((ROOT / page).read_text(encoding="utf-8")), page


def test_the_page_checks_can_fail(tmp_path: Path) -> None:
    tree = {"eval": {"--model", "--help"}}
    assert bad_names("`safesight.errors.NoSuchThing` `safesight.nowhere`")
    assert not bad_names(
        "`safesight.word_lists` `safesight.errors.InputError` `safesight.types.Sample.messages()`"
    )
    assert bad_links("[a](gone.md)", tmp_path) == ["gone.md"]
    assert not bad_links("[a](https://arxiv.org/abs/1)", tmp_path)
    assert bad_commands("```bash\nsafesight evil\n```\n", tree)
    assert bad_commands("```bash\nsafesight eval --modle \\\n  x\n```\n", tree)
    assert not bad_commands("```bash\nsafesight eval --model x\n```\n", tree)
    assert stale({tmp_path / "page.md": "text"})
    assert vendors_numbers("| attack interception | 98.4% | 53.1% |")
    assert vendors_numbers("98.4% are intercepted, at +100 ms")
    assert not vendors_numbers("| describe | 97.0% (94.4 to 98.4) |")


def test_a_missing_result_is_said_not_invented(tmp_path: Path) -> None:
    results = Results(tmp_path)
    text = "<!-- fill: rate demo sasa vqa utility -->99%<!-- /fill -->"
    assert "99%" not in fills.fill(text, results, "page.md")
    assert results.missing


@pytest.mark.parametrize(
    "text",
    [
        "<!-- fill: nonsense -->x<!-- /fill -->",
        "<!-- fill: rate demo -->x<!-- /fill -->",
        "<!-- fill: tree -->x",
    ],
)
def test_a_bad_marker_is_an_error(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"page\.md"):
        fills.fill(text, Results(tmp_path), "page.md")
