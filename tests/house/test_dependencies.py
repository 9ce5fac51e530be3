"""Every import from outside is declared, and every declaration is imported or has a reason."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.house.rules import imports
from tests.house.source import ROOT, Source, sources

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]

# Distributions whose module has another name.
MODULES = {
    "pillow": "PIL",
    "pyyaml": "yaml",
    "scikit-learn": "sklearn",
    "inspect-ai": "inspect_ai",
    "optimum-quanto": "optimum",
    "prometheus-client": "prometheus_client",
}

# Declared and imported nowhere in src, and why.
NOT_IMPORTED = {
    "accelerate": "the Trainer and device maps of transformers need it",
    "gguf": "transformers reads the language model of testbed-smol with it",
    "onnxruntime": "what rapidocr runs on",
    "optimum": "quanto, which transformers quantizes with",
    "torchvision": "the image processors of some models need it",
}

# Not declared: these tools bring safesight in, not the other way round.
HOSTS = {"lmms_eval", "garak", "pyrit"}

# What the extras bring and a light install does without.
LIGHT = (
    "inspect_ai",
    "peft",
    "accelerate",
    "statsmodels",
    "rapidocr",
    "optimum",
    "fastapi",
    "openai",
    "gradio",
)


def _modules(requirements: list[str]) -> set[str]:
    names = {re.split(r"[<>=\[]", each)[0] for each in requirements}
    return {MODULES.get(name, name) for name in names - {"safesight"}}


def _declared() -> set[str]:
    extras = (each for name, extra in EXTRAS.items() if name != "dev" for each in extra)
    return _modules([*PROJECT["dependencies"], *extras])


def _third_party(found: list[Source]) -> dict[str, str]:
    """Top-level module to a place that imports it."""
    known = {*sys.stdlib_module_names, "safesight"}
    return {
        name.split(".")[0]: f"{source.module}:{line}"
        for source in found
        for line, name in imports(source)
        if name.split(".")[0] not in known
    }


def test_every_import_is_declared() -> None:
    used = _third_party(list(sources()))
    assert {name: place for name, place in used.items() if name not in _declared() | HOSTS} == {}
    assert {used[name].partition(":")[0] for name in HOSTS} == {
        f"safesight.plugins.{name}" for name in HOSTS
    }


def test_every_declaration_is_imported_or_has_a_reason() -> None:
    used = set(_third_party(list(sources())))
    assert _declared() - used == set(NOT_IMPORTED)


def test_everything_is_in_the_extra_all() -> None:
    # torchvision fits one version of torch alone, so nobody gets it without asking.
    # vLLM has an environment of its own.
    others = [name for name in EXTRAS if name not in ("all", "dev", "vision", "vllm")]
    assert EXTRAS["all"] == [f"safesight[{','.join(others)}]"]


_BLOCK = """
import sys
from importlib.machinery import PathFinder
find = PathFinder.find_spec
def without(name, path=None, target=None):
    return None if name in {blocked!r} else find(name, path, target)
PathFinder.find_spec = staticmethod(without)
"""


def _without(blocked: tuple[str, ...], code: str, *words: str) -> subprocess.CompletedProcess[str]:
    script = _BLOCK.format(blocked=blocked) + code
    return subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True)


_PROTECT = """
from safesight import protect
from tests import tiny
from tests.contracts.defense_helpers import build, fit_data, prompts
vlm = tiny.vlm("llava")
artifact = build("sasa").fit(vlm, fit_data(), progress=False)
plain = vlm.answer(prompts(), max_new_tokens=3)
with protect(vlm.model, vlm.processor, "sasa", artifact):
    print(len(vlm.answer(prompts(), max_new_tokens=3)))
assert vlm.answer(prompts(), max_new_tokens=3) == plain
"""


def test_a_light_install_fits_and_protects() -> None:
    result = _without(LIGHT, _PROTECT)
    assert result.stdout.split() == ["4"], result.stderr


_LAYERS = """
from safesight.report import render_layers
from tests.report.layer_fakes import report
print(render_layers(report()).count("<svg") > 10)
"""


def test_a_light_install_draws_the_page_of_layers() -> None:
    result = _without(LIGHT, _LAYERS)
    assert result.stdout.split() == ["True"], result.stderr


# Command, what it lacks, the extra that brings it.
COMMANDS = (
    ("eval --limit 1 --log-dir {folder}/logs", "inspect_ai", "eval"),
    ("demo -o {folder}/demo", "inspect_ai", "eval"),
    ("compare {folder}", "inspect_ai", "eval"),
    ("report {folder}", "inspect_ai", "eval"),
    ("run image_tools -o {folder}/out.json", "statsmodels", "eval"),
    ("fit npo -o {folder}/npo", "accelerate", "train"),
    ("serve --defense none", "fastapi", "serve"),
    ("app", "gradio", "app"),
    ("merge src/safesight/fitting/artifacts/testbed/npo -o {folder}/merged", "peft", "train"),
    ("check testbed --device-map auto", "accelerate", "train"),
    ("check testbed --quantization int8", "optimum", "quantized"),
)

_CLI = """
import json
from typer.testing import CliRunner
from safesight.cli.main import app
results = [CliRunner().invoke(app, words.split()) for words in sys.argv[1:]]
print(json.dumps([[each.exit_code, each.stderr] for each in results]))
"""


def test_what_is_missing_is_said_in_one_sentence(tmp_path: Path) -> None:
    commands = [words.format(folder=tmp_path) for words, _, _ in COMMANDS]
    result = _without(LIGHT, _CLI, *commands)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    for (words, module, extra), (code, message) in zip(COMMANDS, found, strict=True):
        said = f'needs {module}, which is not installed: pip install "safesight[{extra}]"\n'
        assert (code, message.endswith(said)) == (2, True), (words, message)


def test_the_block_can_fail() -> None:
    assert _without(("pydantic",), "from safesight import protect").returncode == 1
