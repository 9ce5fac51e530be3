"""What the repository may hold: no pickles, no large files, no word that belongs elsewhere."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from tests.house.source import ROOT, tracked

PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz"}
MAX_WEIGHTS_MB = 40
MAX_FILE_MB = 45
MAX_RESULTS_MB = 3
BINARY = {".png", ".safetensors", ".jpg", ".gif", ".ico", ".ttf", ".woff2"}

FORBIDDEN = {
    "a package host": r"(pypi|pythonhosted|npmjs|debian)\.(org|com)",
    "a wheel index": r"download\.pytorch",
    "an installer's index option": r"--(extra-)?index-url|--find-links",
    "an absolute path of one machine": r"(?<![\w.:/])/(work|home|root|opt|tmp/w)/\w",
    "an issue number": r"(?i)\bissue #?\d+",
    "talk of who wrote it": r"(?i)\b(as an ai i|this session|sub-?agent|helper agent)\b",
}

Sentences = list[str]


def forbidden_words(name: str, text: str) -> Sentences:
    return [
        f"{name}:{text.count(chr(10), 0, match.start()) + 1}: {what}: {match.group()!r}"
        for what, pattern in FORBIDDEN.items()
        for match in re.finditer(pattern, text)
    ]


def pickles(paths: list[Path]) -> Sentences:
    return [f"{path}: pickles are never loaded here" for path in paths if path.suffix in PICKLES]


def large(sizes: dict[str, int]) -> Sentences:
    return [f"{name}: {size >> 20} MB" for name, size in sizes.items() if size > MAX_FILE_MB << 20]


def test_no_forbidden_words() -> None:
    wrong: Sentences = []
    for path in tracked():
        if path.suffix in BINARY or path == Path(__file__):
            continue
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
        wrong += forbidden_words(str(path.relative_to(ROOT)), text)
    assert not wrong, "\n".join(wrong)


def test_no_pickles() -> None:
    assert pickles(list(tracked())) == []


def test_no_large_files() -> None:
    assert large({str(path): path.stat().st_size for path in tracked()}) == []


def test_the_committed_results_are_small() -> None:
    results = ROOT / "docs/results"
    assert sum(path.stat().st_size for path in results.iterdir()) <= MAX_RESULTS_MB << 20


def test_the_bundled_weights_are_small_and_safe() -> None:
    folder = ROOT / "src/safesight/testbed/weights"
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert any(path.suffix == ".safetensors" for path in files)
    assert sum(path.stat().st_size for path in files) <= MAX_WEIGHTS_MB << 20


def test_the_constraints_name_versions_and_nothing_else() -> None:
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        assert re.fullmatch(r"#.*|[A-Za-z0-9._-]+==[0-9][0-9a-z.]*", line), line


def test_every_dependency_is_constrained() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    more = project["optional-dependencies"]
    assert "safesight[all]" in more["dev"]  # so the tests run what every extra brings
    # torchvision fits one version of torch alone: whoever wants it takes it from where torch came.
    # vLLM has an environment of its own, with constraints of its own.
    pinnable = [extra for name, extra in more.items() if name not in ("vision", "vllm")]
    everything = {*project["dependencies"], *(each for extra in pinnable for each in extra)}
    wanted = {each for each in everything if not each.startswith("safesight[")}
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {_normal(line.partition("==")[0]) for line in lines}
    assert {_normal(re.split(r"[<>=\[]", name)[0]) for name in wanted} <= pinned


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize(
    "text",
    [
        "pip install --extra-index-url x",
        "see /work/main/src",
        "fixes issue #12",
        "see issue 2",
        "files.pythonhosted.org",
        "in this session",
    ],
)
def test_the_word_check_can_fail(text: str) -> None:
    assert forbidden_words("x", text)


def test_the_word_check_lets_plain_text_pass() -> None:
    assert forbidden_words("x", "./work/x, homework, a known issue, https://arxiv.org/abs/1") == []


def test_the_other_checks_can_fail() -> None:
    assert pickles([Path("model.pt")])
    assert large({"x": 46 << 20})
