"""The documentation says what is so: pages are current, snippets run, names and links exist."""

from __future__ import annotations

import ast
import gzip
import re
import shlex
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from safesight import __version__, registry
from scripts.docs import cli_pages, fills
from scripts.docs.pages import API, CLI, ROOT, Generated, generate, markdown, stale
from scripts.docs.results import Results
from tests.house.source import Source, sources

PAGES = [str(path.relative_to(ROOT)) for path in markdown()]
RUN = "<!-- snippets: run -->"


def snippets(text: str, language: str) -> Iterator[tuple[int, str]]:
    """First line number and body of every code block in a language."""
    for match in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        yield text.count("\n", 0, match.start(1)) + 1, match.group(1)


def examples(text: str) -> Iterator[tuple[int, str, str | None]]:
    """Python blocks with the output that a `text` block right after them shows, if there is one."""
    pattern = r"^```python\n(.*?)^```$(?:\n+```text\n(.*?)^```$)?"
    for match in re.finditer(pattern, text, re.DOTALL | re.MULTILINE):
        yield text.count("\n", 0, match.start(1)) + 1, match.group(1), match.group(2)


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


def bad_links(text: str, page: Path) -> list[str]:
    """Relative links to a file that is not there, or to a heading that its page does not have."""
    wrong = []
    for link in re.findall(r"\]\(([^)\s]+)[^)]*\)", text):
        place, _, anchor = link.partition("#")
        target = page.parent / place if place else page
        if "://" in link or (target.exists() and not anchor):
            continue
        if not target.exists() or anchor not in anchors(target.read_text(encoding="utf-8")):
            wrong.append(link)
    return wrong


def raw_lines(text: str) -> list[str]:
    """Lines that begin with a comment and go on: Markdown shows such a line as it is spelled."""
    return re.findall(r"^ {0,3}(?:[-*>] +)?(<!--.*?--> *\S.*)$", text, re.MULTILINE)


def anchors(text: str) -> set[str]:
    """The names that a Git host gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(body: str) -> Iterator[str]:
    """The commands of a snippet; one in quotes, or with a backslash, may go over several lines."""
    begun = ""
    for line in body.replace("\\\n", " ").splitlines():
        begun += line
        try:
            shlex.split(begun, comments=True)
        except ValueError:  # the quotes are still open
            begun += "\n"
            continue
        yield begun
        begun = ""
    assert not begun, f"quotes without an end: {begun}"


def bad_commands(text: str, tree: Mapping[str, set[str]]) -> list[str]:
    """Lines that call safesight with a command or an option it does not have."""
    wrong = []
    for language in ("bash", "console", "sh"):
        for _, body in snippets(text, language):
            for line in commands(body):
                words = shlex.split(line.removeprefix("$ "), comments=True)
                if words[:1] and Path(words[0]).name == "safesight":
                    wrong += _bad_words(words[1:], tree, line)
    return wrong


def _bad_words(words: list[str], tree: Mapping[str, set[str]], line: str) -> list[str]:
    if not words or words[0].startswith("-"):
        return []
    if words[0] not in tree:
        return [f"{line}: there is no command {words[0]}"]
    own = words[: words.index("--")] if "--" in words else words  # the rest is another program's
    options = [found[0] for word in own if (found := re.match(r"-[-a-zA-Z][^\s=]*(?=$|=)", word))]
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
    assert bad_links(text, path) == []
    assert bad_commands(text, tree) == []
    assert raw_lines(text) == []
    for line, body in snippets(text, "python"):
        compile("\n" * (line - 1) + body, page, "exec")


@pytest.mark.parametrize(
    "page", [page for page in PAGES if RUN in (ROOT / page).read_text(encoding="utf-8")]
)
def test_the_snippets_of_a_page_run(
    page: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In order, in one namespace, in an empty folder; what a page shows as output is printed."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "snippet"}
    for line, body, shown in examples((ROOT / page).read_text(encoding="utf-8")):
        exec(compile("\n" * (line - 1) + body, page, "exec"), names)
        printed = capsys.readouterr().out
        assert shown is None or printed == shown, f"{page}:{line} prints {printed!r}"


@pytest.mark.parametrize("page", ["README.md", "docs/tutorials/first-steps.md"])
def test_the_first_pages_run_their_snippets_and_show_what_they_print(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert RUN in text
    assert any(shown for _, _, shown in examples(text))


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 180


def test_the_index_links_every_page() -> None:
    index = ROOT / "docs/README.md"
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", index.read_text(encoding="utf-8"))
    linked = {(index.parent / link).resolve() for link in links}
    sorted_pages = {CLI, API, *(ROOT / page for page in PAGES)} - {index}
    folders = {"tutorials", "how-to", "concepts", "reference"}
    unlinked = {page for page in sorted_pages if page.parent.name in folders} - linked
    assert not unlinked


def messages(source: Source) -> Iterator[str]:
    """The texts of a file, with `…` where an f-string puts a value."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.JoinedStr):
            values = (v.value if isinstance(v, ast.Constant) else "…" for v in node.values)
            yield "".join(map(str, values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_the_messages_of_troubleshooting_exist() -> None:
    page = (ROOT / "docs/how-to/troubleshooting.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)
    assert len(quoted) > 20
    known = (ROOT / "Makefile").read_text(encoding="utf-8")
    known += "\n".join(message for source in sources() for message in messages(source))
    assert [message for message in quoted if message not in known] == []


def test_the_citation_names_this_version() -> None:
    found = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors", "version", "license"} <= found.keys()
    assert (found["cff-version"], found["version"]) == ("1.2.0", __version__)


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
    page, there = tmp_path / "page.md", tmp_path / "there.md"
    there.write_text("# What `it` costs, per row\n\n```bash\n# a comment\n```\n")
    page.write_text("# Here\n")
    assert bad_links("[a](gone.md)", page) == ["gone.md"]
    for bad in ("there.md#what-it-cost", "there.md#a-comment", "#there"):
        assert bad_links(f"[a]({bad})", page) == [bad]
    for good in ("https://arxiv.org/abs/1#s", "there.md#what-it-costs-per-row", "#here"):
        assert not bad_links(f"[a]({good})", page)
    assert list(examples("```python\nprint(1)\n```\n\n```text\n1\n```\n")) == [
        (2, "print(1)\n", "1\n")
    ]
    assert next(messages(Source("x", "raise E(f'No {name!r} ' 'here.')"))) == "No … here."
    assert bad_commands("```bash\nsafesight evil\n```\n", tree)
    assert bad_commands("```bash\nsafesight eval --modle \\\n  x\n```\n", tree)
    assert not bad_commands("```bash\nsafesight eval --model x\n```\n", tree)
    assert raw_lines("it is\n<!-- fill: x -->1<!-- /fill --> [of](a)\n") == [
        "<!-- fill: x -->1<!-- /fill --> [of](a)"
    ]
    assert not raw_lines("it <!-- fill: x -->1<!-- /fill -->\n<!-- fill: y -->\n| a |\n")
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


def test_no_result_names_a_place_of_the_machine_that_measured_it() -> None:
    for path in sorted((ROOT / "docs/results").glob("*.json*")):
        content = path.read_bytes()
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
        assert not re.findall(r'"(?:file://)?/(?:tmp|home|root|work|Users)/[^"]*', text), path.name
