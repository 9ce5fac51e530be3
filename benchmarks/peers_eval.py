"""An evaluation: safesight eval, lmms-eval, and the bare batched loop.

Not a benchmark; a row of `peers.py`. All ask a LLaVA of random weights the same questions about
the same pictures, and each answer has the same length. The time is that of the whole evaluation
with the model already loaded: prompts, answers, verdicts, logs. lmms-eval's backend of this
architecture (`llava_hf_chat`) takes one question at a time, so ours is measured at that batch
size, too.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from peers_rounds import Arms, Entry, Pair, Row, Unavailable
from peers_worker import Worker, answering, python_of, work

__all__ = ["ROW", "our_arms"]

COUNTS = {32: 192, 1: 48}
"""Questions by batch size: enough that starting an evaluation, which takes half a second, is not
what is measured."""
TASK, TOKENS = "image_harm", 16
PEER = "lmms-eval, batch 1"
HOW = "Make it with make test-plugins, or name a Python with --lmms-python."
YAML = """
task: peers
dataset_path: parquet
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: generate_until
doc_to_visual: !function peers_functions.pictures
doc_to_text: !function peers_functions.question
doc_to_target: target
generation_kwargs:
  max_new_tokens: {tokens}
  temperature: 0
  do_sample: false
  num_beams: 1
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
metadata:
  version: 1
"""
FUNCTIONS = """
def pictures(doc):
    return [picture.convert("RGB") for picture in doc["pictures"]]

def question(doc, lmms_eval_specific_kwargs=None):
    return doc["question"]
"""


def write_task(folder: Path, samples: Any, tokens: int) -> None:
    """The samples as a task of lmms-eval, with its data beside it."""
    from datasets import Dataset, Features, Image, Sequence, Value

    rows = Dataset.from_dict(
        {
            "question": [sample.question for sample in samples],
            "target": ["-"] * len(samples),
            "pictures": [[sample.image()] for sample in samples],
        },
        features=Features(
            {"question": Value("string"), "target": Value("string"), "pictures": Sequence(Image())}
        ),
    )
    rows.to_parquet(folder / "peers.parquet")
    text = YAML.format(data=folder / "peers.parquet", tokens=tokens)
    (folder / "peers.yaml").write_text(text, encoding="utf-8")
    (folder / "peers_functions.py").write_text(FUNCTIONS, encoding="utf-8")


def our_arms(told: dict[str, Any]) -> Arms:
    """The bare loop and the evaluation on one copy of the weights."""
    from safesight import registry
    from safesight.evals import run_eval
    from safesight.hosting.hosts import host

    model, tokens = told["model"], told["tokens"]
    counts = {int(batch): n for batch, n in told["counts"].items()}
    served = host(model)
    served.vlm.model.generation_config.max_new_tokens = tokens
    samples = registry.load("benchmark", TASK)(max(counts.values()), seed=0)

    def bare(batch: int) -> Entry:
        n = counts[batch]
        now = time.perf_counter()
        with served.lock:
            for first in range(0, n, batch):
                asked = [sample.messages() for sample in samples[first : min(first + batch, n)]]
                served.vlm.answer(asked, max_new_tokens=tokens)
        return {"seconds": time.perf_counter() - now, "n": n}

    def evaluated(batch: int) -> Entry:
        n = counts[batch]
        with tempfile.TemporaryDirectory() as folder:
            now = time.perf_counter()
            run_eval(
                model,
                ["none"],
                [TASK],
                limit=n,
                log_dir=folder,
                batch_size=batch,
                progress=False,
            )
            return {"seconds": time.perf_counter() - now, "n": n}

    return {
        name: lambda measure=measure, batch=batch: measure(batch)  # type: ignore[misc]
        for batch in counts
        for name, measure in ((_bare(batch), bare), (_eval(batch), evaluated))
    }


def _bare(batch: int) -> str:
    return f"bare loop, batch {batch}"


def _eval(batch: int) -> str:
    return f"safesight eval, batch {batch}"


def _theirs(told: dict[str, Any]) -> Arms:
    """In lmms-eval's worker."""
    import logging

    # Its backend imports a reader of videos, and there are none here.
    decord: Any = ModuleType("decord")
    decord.VideoReader = decord.cpu = None
    sys.modules.setdefault("decord", decord)
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.models.chat.llava_hf import LlavaHf
    from lmms_eval.tasks import TaskManager

    logging.disable(logging.WARNING)

    def evaluated() -> Entry:
        # Each evaluation ends with the model's removal; loading it is not timed.
        model = LlavaHf(
            pretrained=told["model"],
            device=told["device"],
            device_map=told["device"],
            dtype=told["dtype"],
            batch_size=1,
        )
        now = time.perf_counter()
        found = simple_evaluate(
            model=model,
            tasks=["peers"],
            task_manager=TaskManager(include_path=told["task"]),
            batch_size=1,
            log_samples=True,
            bootstrap_iters=0,
        )
        seconds = time.perf_counter() - now
        assert found is not None
        # Its backend notes an error of the model and goes on without an answer.
        if not all(row["filtered_resps"][0] for row in found["samples"]["peers"]):
            raise Unavailable("lmms-eval has no answer to some question.")
        return {"seconds": seconds, "n": len(found["samples"]["peers"])}

    return {PEER: evaluated}


def _made(told: dict[str, Any]) -> Arms:
    return our_arms(told) if told["who"] == "ours" else _theirs(told)


@contextmanager
def _started(arguments: Any, case: str) -> Iterator[Arms]:
    from provider_overhead import large_model

    from safesight import registry

    python = python_of(arguments.lmms_python, "lmms-eval", HOW)
    counts, tokens = (dict.fromkeys(COUNTS, 4), 2) if arguments.small else (COUNTS, TOKENS)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        task = folder / "task"
        task.mkdir()
        model = large_model(_inside(folder, "model"))
        write_task(task, registry.load("benchmark", TASK)(counts[1], seed=0), tokens)
        told = {
            "model": model,
            "counts": counts,
            "tokens": tokens,
            "task": str(task),
            "device": "cpu",
            "dtype": "float32",
        }
        yield stack.enter_context(
            answering(
                lambda: Worker(sys.executable, __file__, {**told, "who": "ours"}),
                lambda: Worker(python, __file__, {**told, "who": "theirs"}),
            )
        )


def _inside(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    return folder / name


def _pairs(case: str, arms: Any) -> list[Pair]:
    return [
        *(Pair(_eval(batch), _bare(batch), most=1.05) for batch in COUNTS),
        Pair(_eval(1), PEER, most=1.0),
        Pair(_eval(max(COUNTS)), PEER, most=1.0),
        Pair(PEER, _bare(1)),
    ]


ROW = Row("evaluation", ("wide",), _started, _pairs, rounds=4)

if __name__ == "__main__":
    work(_made)
