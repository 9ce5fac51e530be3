"""Runs vLLM engines in a process of its own, one after another.

A test says what to start and what to ask, and gets tokens, decisions, or the error of the start.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from safesight.errors import SafesightError

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
}
OPTIONS = {
    "dtype": "float32",
    "enforce_eager": True,
    "max_model_len": 512,
    "max_num_seqs": 16,
    "distributed_executor_backend": "uni",
    "limit_mm_per_prompt": {"image": 2, "video": 0},
}
"""Those of a small engine in one process."""


@dataclass(frozen=True)
class Job:
    """An engine, and the requests to send to it in one batch."""

    checkpoint: Path
    defenses: Sequence[Mapping[str, Any]] = ()
    """As under "safesight" in an engine's configuration."""
    requests: Sequence[tuple[Any, bool]] = ()
    """Messages, and whether the defenses are on."""
    max_tokens: int = 6
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of vLLM, over `OPTIONS`."""
    unchecked: bool = False
    """Start also where `engine_check` refuses the options."""


@dataclass(frozen=True)
class Result:
    """What came of a job."""

    error: str | None = None
    """The message, if the engine did not start."""
    runner: int = 0
    """Which model runner it had."""
    prompts: Sequence[Sequence[int]] = ()
    answers: Sequence[Sequence[int]] = ()
    """Tokens of each request, without the end of the turn."""
    decisions: Mapping[tuple[str, tuple[int, ...]], tuple[float, bool]] = field(
        default_factory=dict
    )
    """Score, and whether it was refused, by detector and tokens of the prompt."""


@contextmanager
def process(runner: int = 1) -> Iterator[ProcessPoolExecutor]:
    """A process for engines; `submit(run, job)` starts one.

    Args:
        runner: Which of vLLM's two model runners to use: 1, as on a CPU, or 2, as on a GPU.
    """
    start = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, start, _prepare, (runner,)) as pool:
        yield pool


def _prepare(runner: int) -> None:
    os.environ.update(ENVIRONMENT)
    if runner == 2:
        os.environ.update({"TRITON_INTERPRET": "1", "VLLM_USE_V2_MODEL_RUNNER": "1"})
        _interpret_triton()


def _interpret_triton() -> None:
    """Let the second runner's kernels run on a CPU, which triton has no backend for.

    vLLM asks triton for an active driver when it is imported; triton's own interpreter needs none.
    """
    import triton.backends

    driver = type("Driver", (), {"is_active": staticmethod(lambda: True)})
    triton.backends.backends["cpu"] = triton.backends.Backend(compiler=None, driver=driver)


def run(job: Job) -> Result:
    """Start an engine, send the requests, and stop it."""
    from vllm import LLM
    from vllm.distributed import destroy_distributed_environment, destroy_model_parallel

    gc.collect()
    gc.freeze()  # what is there now need not be looked through when the engine is gone
    llm = None
    with ExitStack() as stack:
        if job.unchecked:
            stack.enter_context(patch("safesight.vllm.engine_check._problems", lambda config: []))
        try:
            llm = LLM(str(job.checkpoint), **{**OPTIONS, **job.options}, **_defended(job))
            return _asked(llm, job)
        except (SafesightError, ValueError, RuntimeError) as error:  # pydantic's is a ValueError
            if llm is not None:
                raise
            return Result(error=str(error))
        finally:
            del llm
            destroy_model_parallel()
            destroy_distributed_environment()


def _defended(job: Job) -> dict[str, Any]:
    if not job.defenses:
        return {}
    safesight = {"defenses": list(job.defenses), "per_request": True}
    return {"additional_config": {"safesight": safesight}}


def _asked(llm: Any, job: Job) -> Result:
    from vllm import SamplingParams

    from safesight.vllm.record import Record

    decisions: dict[tuple[str, tuple[int, ...]], tuple[float, bool]] = {}

    def spy(self: Record, prompts: Any, found: Any) -> None:
        for name, decision in found:
            for index, rows in enumerate(prompts):
                key = name, tuple(rows.request.prompt.tolist())
                decisions[key] = float(decision.scores[index]), bool(decision.refuse[index])

    params = [
        SamplingParams(
            temperature=0,
            max_tokens=job.max_tokens,
            extra_args=None if on else {"safesight": "off"},
        )
        for _, on in job.requests
    ]
    talks = [_as_vllm(messages) for messages, _ in job.requests]
    with patch.object(Record, "write", spy):
        outputs = llm.chat(talks, params, use_tqdm=False, chat_template_content_format="openai")
    end = llm.get_tokenizer().eos_token_id
    return Result(
        None,
        2 if llm.llm_engine.vllm_config.use_v2_model_runner else 1,
        [list(each.prompt_token_ids) for each in outputs],
        [[token for token in each.outputs[0].token_ids if token != end] for each in outputs],
        decisions,
    )


def _as_vllm(messages: Any) -> Any:
    return [
        {
            **turn,
            "content": [
                {"type": "image_pil", "image_pil": part["image"]} if "image" in part else part
                for part in turn["content"]
            ],
        }
        for turn in messages
    ]
