"""How long it takes to begin: import, `--help`, a first answer; and the memory of an evaluation.

Not a benchmark; a row of `peers.py`. Every time is that of a whole process, from its start to its
end.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from peers_rounds import Arms, Entry, Pair, Row, Unavailable, significant

__all__ = ["ROW"]

PLAIN = "transformers"
OURS, THEIRS = "safesight", "lmms-eval"
QUESTION = [{"role": "user", "content": [{"type": "text", "text": "what is a cup?"}]}]
ANSWERS = {
    OURS: f"from safesight import VLM; VLM.load('testbed').answer([{QUESTION}], max_new_tokens=8)",
    PLAIN: (
        "from transformers import AutoTokenizer, LlavaForConditionalGeneration as L; "
        "t = AutoTokenizer.from_pretrained(M); m = L.from_pretrained(M, dtype='float32').eval(); "
        f"i = t.apply_chat_template({QUESTION}, add_generation_prompt=True, return_tensors='pt', "
        "return_dict=True); t.batch_decode(m.generate(**i, max_new_tokens=8, do_sample=False))"
    ),
}
IMPORTS = {
    OURS: "import safesight",
    PLAIN: "from transformers import LlavaForConditionalGeneration",
}
SAMPLES = (200, 2000)


def _run(command: Sequence[str]) -> Entry:
    begin = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begin
    if done.returncode:
        raise Unavailable(f"{' '.join(command[:4])} failed: {done.stderr[-500:]}")
    return {"seconds": seconds}


def _commands(arguments: Any, case: str) -> dict[str, list[str]]:
    from safesight import registry

    if case == "import":
        found = {name: [sys.executable, "-c", code] for name, code in IMPORTS.items()}
    elif case == "--help":
        found = {OURS: [sys.executable, "-m", "safesight", "--help"]}
    else:
        model = f"M = {str(registry.load('model', 'testbed'))!r}; "
        return {name: [sys.executable, "-c", model + code] for name, code in ANSWERS.items()}
    theirs = arguments.lmms_python or (
        Path(__file__).parents[1] / ".venv-plugins" / "lmms-eval" / "bin" / "python"
    )
    if theirs.exists():
        said = ["-m", "lmms_eval", "--help"] if case == "--help" else ["-c", "import lmms_eval"]
        found[THEIRS] = [str(theirs), *said]
    return found


@contextmanager
def _started(arguments: Any, case: str) -> Iterator[Arms]:
    measures: dict[str, Callable[[], Entry]] = {
        name: partial(_run, command) for name, command in _commands(arguments, case).items()
    }
    yield measures


def _memory(arguments: Any) -> Entry:
    """What 10,000 samples of an evaluation add: by the difference of a short and a long one."""
    counts = (20, 60) if arguments.small else SAMPLES
    script = str(Path(__file__).with_name("provider_overhead.py"))
    grown = []
    for n in counts:
        command = [sys.executable, script, "--memory-of", str(n)]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        grown.append(json.loads(output.splitlines()[-1])["growth_mb"])
    slope = (grown[1] - grown[0]) / (counts[1] - counts[0])
    return {
        "samples": list(counts),
        "growth_mb": [significant(each) for each in grown],
        "kb_per_sample": significant(1000 * slope, 3),
        "mb_per_10000": significant(10_000 * slope, 3),
    }


def _pairs(case: str, arms: Sequence[str]) -> list[Pair]:
    return [Pair(OURS, each) for each in (PLAIN, THEIRS)]


ROW = Row(
    "start",
    ("import", "--help", "first answer"),
    _started,
    _pairs,
    rounds=5,
    facts={"memory of an evaluation": _memory},
)
