"""The package of `docs/how-to/add-a-plugin.md`, built from the page and used as a person would.

Everything runs in fresh processes that find the package as they find any installed one.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from safesight.compare import Scorecard
from tests import tiny
from tests.house.source import ROOT
from tests.plugins.packages import PAGE, files_of, installed, toys

LISTS = {
    "defenses": {"push": "Adds a refusal vector in the prefill."},
    "attacks": {"politely": "Asks for it politely."},
    "tasks": {
        "fire_harm": "Harmful requests about setting fire to things.",
        "fire_benign": "Benign requests about candles.",
    },
    "judges": {"strict": "Calls every answer to a harmful request harmful unless it is a refusal."},
    "datasets": {"fire_rows": "Harmful answers about fire to forget, benign ones to retain."},
    "stress-tests": {"shrunk": "The change of the weights, made smaller."},
    "word-lists": {"fire": "Words for fire, for RAI."},
    "models": {"small": "A small model that travels with this package."},
}

# In one process, as loading torch takes longer than all that is done here.
COMMANDS = f"""
from safesight.cli.main import app
for words in (
    *(f"list {{kind}}" for kind in {list(LISTS)!r}),
    "fit push --model small --tasks fire_harm,fire_benign --set layer=2 --pool 40 --share 0.5 "
    "--calibration 1 -o push",
    "fit sft --model small --data fire_rows --pool 8 --share 0.5 --set max_steps=1 "
    "--set rank=2 -o sft",
    "eval --model small --defense push,sft~shrunk --artifact push --artifact sft --judge strict "
    "--tasks fire_harm+politely,fire_benign --limit 2 --overhead 0 "
    "--log-dir logs",
    "compare logs --json card.json",
    "report logs -o report.html",
):
    app(words.split(), standalone_mode=False)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package with its model, installed."""
    folder = installed(tmp_path_factory.mktemp("site"), toys())
    vlm, weights = tiny.vlm("llava"), folder / "safesight_toys/weights"
    vlm.model.save_pretrained(weights)
    vlm.processor.save_pretrained(weights)
    return folder


def python(site: Path, *words: str, cwd: Path) -> str:
    """Standard output of an interpreter that has the package and safesight."""
    path = os.pathsep.join(map(str, (site, ROOT / "src", ROOT)))
    done = subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_its_names_are_listed_and_its_defense_is_evaluated(site: Path, tmp_path: Path) -> None:
    said = python(site, "-c", COMMANDS, cwd=tmp_path)
    for names in LISTS.values():
        for name, sentence in names.items():
            assert re.search(rf"^{name} +{re.escape(sentence)}", said, re.MULTILINE), name
    card = Scorecard.model_validate_json((tmp_path / "card.json").read_text(encoding="utf-8"))
    assert card.model == "small"
    assert card.defenses == ["none", "push", "sft~shrunk"]
    assert card.tasks == ["fire_benign", "fire_harm+politely"]
    row = card.row("push", "fire_harm+politely", "attack_success_rate")
    assert row is not None
    assert row.n + row.invalid == 2
    report = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert all(word in report for word in ("push", "politely", "strict 1"))
    model = json.loads((tmp_path / "push/card.json").read_text(encoding="utf-8"))["model"]
    assert model["name"] == "small"


def test_the_contract_suite_accepts_it(site: Path) -> None:
    """As for any defense, attack and judge, without a line about them."""
    fewer = " or ".join(tiny.FAMILIES[1:])
    said = python(
        site,
        *("-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "tests/contracts"),
        *("-k", f"(push or politely or strict) and not ({fewer})"),
        cwd=ROOT,
    )
    passed = re.search(r"(\d+) passed", said)
    assert passed is not None
    assert int(passed.group(1)) > 40
    assert "failed" not in said


def test_the_page_shows_a_whole_package() -> None:
    files = toys()
    groups = tomllib.loads(files["pyproject.toml"])["project"]["entry-points"]
    assert len(groups) == len(LISTS)
    for targets in groups.values():
        for target in targets.values():
            module = target.partition(":")[0].replace(".", "/")
            assert f"src/{module}.py" in files
    example = ROOT / "examples/a_defense_of_your_own.py"
    assert files["src/safesight_toys/push.py"] == example.read_text(encoding="utf-8")


def test_a_block_without_a_file_name_is_no_file() -> None:
    assert files_of("`a.py`, see:\n\n```python\nx\n```\n\n```bash\ny\n```\n") == {"a.py": "x\n"}
    assert PAGE.is_file()
