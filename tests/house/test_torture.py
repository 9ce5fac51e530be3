"""The frame of `make torture`; the trials themselves take hours and are not run here."""

from __future__ import annotations

import inspect
import json
from importlib import import_module
from pathlib import Path

import pytest
from benchmarks.torture import __main__ as torture


@pytest.mark.parametrize("kind", torture.TRIALS)
def test_a_kind_takes_a_number_a_seed_and_a_folder(kind: str) -> None:
    module = import_module(f"benchmarks.torture.{kind}")
    assert [*inspect.signature(module.run).parameters] == ["n", "seed", "folder"]


def test_a_run_of_one_kind_keeps_the_counts_of_the_others(tmp_path: Path) -> None:
    path = tmp_path / "torture.json"
    torture.save(path, [{"kind": "commands", "tried": 5}])
    torture.save(path, [{"kind": "kills", "tried": 4}])
    torture.save(path, [{"kind": "commands", "tried": 6}])
    rows = json.loads(path.read_text())["rows"]
    assert rows == [{"kind": "kills", "tried": 4}, {"kind": "commands", "tried": 6}]


def test_a_fault_fails_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {"tried": 2, "right": 1, "refused": 0, "faults": ["eval: a wrong result"]}
    right = {"tried": 2, "right": 2, "refused": 0, "faults": []}
    monkeypatch.setattr(torture, "trial", lambda kind, n, seed: found if kind == "kills" else right)
    monkeypatch.setattr("sys.argv", ["torture", "kills", "pictures"])
    with pytest.raises(SystemExit) as end:
        torture.main()
    assert end.value.code
    assert "1 faults\n  eval: a wrong result\npictures: 2 tried" in capsys.readouterr().out
