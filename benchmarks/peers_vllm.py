"""vLLM's throughput without safesight, and with its defenses off and on.

Not a benchmark; a row of `peers.py`. Two engines wait side by side: one without the plugin, one
with a defense that requests may turn off. All get the same prompts in one batch and write the
same number of tokens, so that only the defense differs. The prompts are those that the defense
answers; detectors also get prompts that they refuse, against the same ones answered without them,
each to its own end.

Two models: the bundled one, whose answers are a sentence long, and a wider one with random weights,
on which every defense is fitted first and whose answers end at the most tokens. Engines run without
a prefix cache, which would know the prompts of the round before.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from peers_rounds import Arms, Entry, Pair, Row
from peers_worker import Worker, answering, python_of, work

__all__ = ["ROW", "as_vllm", "fit_data", "fitted"]

EDITS = ("rai", "refusal_direction", "tool_vector")
DETECTORS = ("probe", "hidden_detect", "sasa")
SETTINGS: dict[str, dict[str, Any]] = {
    "probe": {"max_fpr": 0.5},
    "hidden_detect": {"max_fpr": 0.5},
    "sasa": {"layers": (5, 6), "max_fpr": 0.5},
    "refusal_direction": {"layer": 6},
    "tool_vector": {"layer": 6},
}
"""On the wide model: the depth where the search of a fit would begin, and a threshold that half of
the prompts pass, so that both kinds are timed."""
AIMS = {"sasa": 0.85}
"""Least throughput, defended over undefended; of the others `AIM`."""
AIM, REFUSED = 0.97, 0.5
WITHOUT, OFF, ON = "without safesight", "off", "on"
SPARED, REFUSING = "off, prompts that it refuses", "on, prompts that it refuses"
SIZES = {"bundled": (48, 32), "wide": (24, 24)}
"""Number of prompts and tokens of an answer."""
LONGEST = 128
"""Tokens of an answer that goes to its own end."""
TASKS = ("vqa", "over_refusal", "sensitive_benign", "image_harm", "text_harm", "typographic_harm")
HOW = "Make it with make test-vllm, or name a Python with --vllm-python."


def as_vllm(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages as `LLM.chat` takes them."""

    def part(found: dict[str, Any]) -> dict[str, Any]:
        return {"type": "image_pil", "image_pil": found["image"]} if "image" in found else found

    return [{**turn, "content": list(map(part, turn["content"]))} for turn in messages]


def fit_data(each: int = 8) -> Any:
    """A few prompts with and without pictures: on random weights the result does not matter."""
    from safesight import registry
    from safesight.defenses import FitData

    def drawn(*tasks: str) -> list[Any]:
        pools = (registry.load("benchmark", task)(each, seed=0, split="fit") for task in tasks)
        return [sample for pool in pools for sample in pool]

    calibration = registry.load("benchmark", "over_refusal")(30, seed=0, split="calibration")
    return FitData(
        drawn("image_harm", "text_harm"), drawn("over_refusal", "sensitive_benign"), calibration
    )


def fitted(vlm: Any, name: str) -> Any:
    """An artifact on a model of random weights."""
    from safesight import load_defense

    defense = load_defense(name, **SETTINGS.get(name, {}))
    return defense.fit(vlm, fit_data(), progress=False)


@cache
def _wide(folder: str) -> Path:
    """The wide model as a checkpoint that vLLM loads."""
    from provider_overhead import large_model

    from safesight import VLM
    from safesight.models.saving import save_checkpoint

    source, target = Path(folder) / "source", Path(folder) / "model"
    source.mkdir(parents=True)
    vlm = VLM.load(large_model(source))
    save_checkpoint(vlm.model, target, vlm.processor)
    return target


def _artifact(model: Path, name: str, folder: Path) -> str:
    """A fit on the wide model, with the states that an engine compares with its own."""
    from safesight import VLM, load_defense
    from safesight.defenses.reference import with_reference

    vlm = VLM.load(str(model))
    artifact = with_reference(vlm, load_defense(name), fitted(vlm, name))
    artifact.save(folder / name)
    return str(folder / name)


class Engine:
    """An engine in this process, and the prompts that it is timed on."""

    def __init__(self, told: dict[str, Any]) -> None:
        from tests.vllm.engines import ENVIRONMENT, OPTIONS

        threads = os.environ.get("OMP_NUM_THREADS", str(os.cpu_count()))
        os.environ |= {**ENVIRONMENT, "OMP_NUM_THREADS": threads}
        from vllm import LLM

        from safesight import registry

        self.name: str | None = told["defense"]
        self.tokens: int = told["tokens"]
        more: dict[str, Any] = {}
        if self.name is not None:
            entry = {"name": self.name}
            if told["artifact"]:
                entry["artifact"] = told["artifact"]
            plugin = {"defenses": [entry], "per_request": True}
            more["additional_config"] = {"safesight": plugin}
        options = {
            **OPTIONS,
            "max_num_seqs": 64,
            "enable_prefix_caching": False,
            "mm_processor_cache_gb": 0,
        }
        self.llm = LLM(told["model"], **options, **more)
        n = told["n"]
        drawn = [registry.load("benchmark", task)(n, seed=0) for task in TASKS]
        talks = [as_vllm(s.messages()) for turn in zip(*drawn, strict=False) for s in turn]
        self.talks = talks[: 4 * n]
        self.n = n

    def ask(self, talks: Sequence[Any], *, on: bool, tokens: int) -> list[list[int]]:
        """The tokens of answers in one batch, all of the same length."""
        from vllm import SamplingParams

        params = SamplingParams(
            temperature=0,
            max_tokens=tokens,
            ignore_eos=True,
            extra_args=None if on or self.name is None else {"safesight": "off"},
        )
        found = self.llm.chat(talks, params, use_tqdm=False, chat_template_content_format="openai")
        return [list(each.outputs[0].token_ids) for each in found]

    def ends(self, talks: Sequence[Any], *, on: bool) -> None:
        """Answer as far as each answer goes: a refusal ends with its last word."""
        from vllm import SamplingParams

        extra = None if on else {"safesight": "off"}
        params = SamplingParams(temperature=0, max_tokens=LONGEST, extra_args=extra)
        self.llm.chat(talks, params, use_tqdm=False, chat_template_content_format="openai")

    def refused(self) -> list[bool]:
        """Which prompts are refused, by the first tokens of the answer."""
        from safesight import load_defense

        if self.name not in DETECTORS:
            return [False] * len(self.talks)
        refusal = load_defense(self.name).config.refusal
        start = self.llm.get_tokenizer().encode(refusal, add_special_tokens=False)[:6]
        answers = self.ask(self.talks, on=True, tokens=len(start))
        return [answer == start for answer in answers]


def _made(told: dict[str, Any]) -> Arms:
    """In the worker: the arms of one engine, on the prompts of `told["answered"]`."""
    engine = Engine(told)
    if told["defense"] is None:
        answered, refusing = told["answered"], []
    else:
        refused = engine.refused()
        answered = [at for at, each in enumerate(refused) if not each][: engine.n]
        refusing = [at for at, each in enumerate(refused) if each][: engine.n]
        Path(told["note"]).write_text(" ".join(map(str, answered)), encoding="ascii")
    talks = [engine.talks[at] for at in answered]
    spared = [engine.talks[at] for at in refusing]

    def timed(call: Callable[[], object], n: int) -> Callable[[], Entry]:
        def measure() -> Entry:
            now = time.perf_counter()
            call()
            return {"seconds": time.perf_counter() - now, "n": n}

        return measure

    def whole(on: bool) -> Callable[[], Entry]:
        return timed(lambda: engine.ask(talks, on=on, tokens=engine.tokens), len(talks))

    if told["defense"] is None:
        return {WITHOUT: whole(True)}
    arms = {OFF: whole(False), ON: whole(True)}
    if len(spared) >= 4:
        arms[REFUSING] = timed(lambda: engine.ends(spared, on=True), len(spared))
        arms[SPARED] = timed(lambda: engine.ends(spared, on=False), len(spared))
    return arms


@contextmanager
def _started(arguments: Any, case: str) -> Iterator[Arms]:
    python = python_of(arguments.vllm_python, "vllm", HOW)
    size, name = case.split(": ")
    n, tokens = (6, 8) if arguments.small else SIZES[size]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        model, artifact = _bundled(), ""
        if size == "wide":
            model = _wide(_folder_of_process())
            artifact = _artifact(model, name, folder)
        told = {"model": str(model), "n": n, "tokens": tokens, "note": str(folder / "answered")}

        def defended() -> Worker:
            more = {"defense": name, "artifact": artifact}
            return Worker(python, __file__, {**told, **more})

        def plain() -> Worker:
            answered = [int(at) for at in (folder / "answered").read_text().split()]
            more = {"defense": None, "answered": answered}
            # No plugin of any kind is loaded.
            return Worker(python, __file__, {**told, **more}, {"VLLM_PLUGINS": ""})

        yield stack.enter_context(answering(defended, plain))


def _bundled() -> Path:
    from safesight import registry

    return Path(registry.load("model", "testbed"))


@cache
def _folder_of_process() -> str:
    """A folder for the wide model, which all defenses share; removed when the process ends."""
    import atexit
    import shutil

    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _pairs(case: str, arms: Sequence[str]) -> list[Pair]:
    """Ratios are of seconds: a throughput of at least 0.97 is a time of at most 1 / 0.97."""
    most = round(1 / AIMS.get(case.split(": ")[1], AIM), 3)
    return [
        Pair(ON, OFF, most=most),
        Pair(ON, WITHOUT, most=most),
        Pair(OFF, WITHOUT),
        Pair(REFUSING, SPARED, most=REFUSED),
    ]


ROW = Row(
    "vllm",
    [f"{size}: {name}" for size in SIZES for name in (*DETECTORS, *EDITS)],
    _started,
    _pairs,
    rounds=4,
)

if __name__ == "__main__":
    work(_made)
