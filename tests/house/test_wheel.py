"""The built package: what the wheel holds, and that it imports without its dependencies."""

from __future__ import annotations

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.house.source import ROOT

pytestmark = pytest.mark.slow

NEEDED = (
    "safesight/py.typed",
    "safesight/testbed/weights/model.safetensors",
    "safesight/testbed/weights/tokenizer.json",
    "safesight/testbed/assets/noto.png",
    "safesight/fitting/artifacts/testbed/sasa/",
    "safesight/app/page/app.css",
    "safesight/experiments/recipes/image_tools.yaml",
)


def _pip(*words: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "pip", *map(str, words)], check=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    _pip("wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT)
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_what_runs_need_and_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for needed in NEEDED:
        assert any(name.startswith(needed) for name in names), needed
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"safesight"}


def test_the_wheel_imports_in_a_bare_environment(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", with_pip=False)
    python = tmp_path / "bare/bin/python"
    _pip("--python", python, "install", "--quiet", "--no-deps", wheel)
    code = "import safesight.registry; print(safesight.registry.names('defense'))"
    result = subprocess.run(
        [str(python), "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert "sasa" in result.stdout
