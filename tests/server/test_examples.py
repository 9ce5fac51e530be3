"""The examples of the page about the server, run against one."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.server.serving import Serving, samples

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "serve.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8000"


def blocks(language: str, word: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    return [block for block in found if word in block]


CURL, PYTHON = blocks("bash", "curl"), blocks("python", "import")


def test_the_page_has_examples() -> None:
    assert len(CURL) >= 5
    assert len(PYTHON) >= 2


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("example", CURL)
def test_examples_for_curl(served: Serving, example: str, tmp_path: Path) -> None:
    picture = samples("vqa")[0].image
    assert picture is not None
    picture().save(tmp_path / "picture.png")
    command = example.replace(ADDRESS, served.root).replace("curl ", "curl -sS --fail-with-body ")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    if '"stream": true' in example:
        assert done.stdout.rstrip().endswith("data: [DONE]")
    elif "metrics" in example:
        assert "safesight_requests_total" in done.stdout
    else:
        answer = json.loads(done.stdout)
        assert answer.get("action") == "NONE" or answer["choices"][0]["message"]["content"]


@pytest.mark.parametrize("example", PYTHON)
def test_examples_for_python(
    served: Serving, example: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if "litellm" in example:
        pytest.importorskip("litellm", reason="litellm is not installed")
    exec(compile(example.replace(ADDRESS, served.root), "serve.md", "exec"), {})
    assert capsys.readouterr().out.strip()
