"""What a detector, a replay and an edit cost at the shapes of a 3B and a 7B model.

Not a benchmark; a row of `peers.py` and of `gpu.py`. Random weights in bfloat16, with the
published sizes (`peers_models.py`). On a CPU the model has few blocks, and so has its vision
tower; times and FLOPs are scaled by the number of blocks (`scaled`). On a GPU it has all of them
and nothing is scaled.

A prompt has 600 tokens, 576 of them of a picture; an answer has 128. Defenses act while the
prompt is read, so that of an answer only the undefended steps are timed. `probe` reads one state,
`sasa` runs its later blocks again from the paper's depth, `rai` edits all visual tokens.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from itertools import pairwise
from typing import Any

from peers_rounds import Arms, Entry, Pair, Row, significant
from peers_worker import Worker, answering, work

__all__ = ["ROW", "scaled", "shape_arms"]

UNDEFENDED = "undefended"
DEFENSES = ("probe", "sasa", "rai")
PROMPT, ANSWER, STEPS = 600, 128, 8
FEW = 6
"""Blocks of the decoder on a CPU."""
FACTS = "FLOPs, steps and memory"


def shape_arms(name: str, device: str, layers: int | None, tokens: int) -> Arms:
    """The arms at one shape: a prefill without a defense and with each.

    Args:
        name: One of `peers_models.SHAPES`.
        device: Where to run.
        layers: Blocks of the decoder; None for all.
        tokens: Length of the prompt.
    """
    import torch
    from peers_models import SHAPES, prompt, vlm_of

    from safesight.defenses import FitData, load_defense

    vlm = vlm_of(name, device, layers)
    harmful = [prompt(vlm, at, tokens, "harmful") for at in range(2)]
    benign = [prompt(vlm, at + 2, tokens) for at in range(2)]
    inputs = dict(vlm.encode([benign[0].messages()]))
    safety, fused = (round(at * vlm.num_layers / 32) for at in (13, 15))
    gate = {"folds": 2, "threshold": 0.999}
    settings: dict[str, dict[str, Any]] = {
        "probe": gate,
        "sasa": {**gate, "layers": (safety, max(fused, safety + 1))},
        "rai": {},
    }
    defenses = {each: load_defense(each, **settings[each], batch_size=1) for each in DEFENSES}
    fits: dict[str, Entry] = {}
    artifacts = {}
    for each, defense in defenses.items():
        with _peak(vlm) as peak:
            data = FitData(harmful, benign)
            artifacts[each] = defense.fit(vlm, data, progress=False)
        fits[each] = {"fit_gb": peak()}

    def attached(each: str) -> Any:
        if each == UNDEFENDED:
            return nullcontext()
        return defenses[each].apply(vlm, artifacts[each])

    def prefill(each: str) -> Entry:
        with torch.no_grad(), attached(each), _parts(vlm) as parts:
            begin = _now(vlm)
            vlm.generate(inputs, max_new_tokens=1)
            return {"seconds": _now(vlm) - begin, **parts()}

    def facts() -> Entry:
        found: Entry = {
            "layers": vlm.num_layers,
            "all_layers": SHAPES[name].layers,
            "replayed": vlm.num_layers - safety - 1,
            "all_replayed": SHAPES[name].layers - round(13 * SHAPES[name].layers / 32) - 1,
            "vision_share": SHAPES[name].vision_share if layers else 1,
            "tokens": inputs["input_ids"].shape[1],
            "step_seconds": _step(vlm, inputs),
            "flops": {
                each: _flops(vlm, inputs, attached(each)) for each in (UNDEFENDED, *DEFENSES)
            },
            "step_flops": _step_flops(vlm, inputs),
            "memory": {each: {**fits.get(each, {})} for each in (UNDEFENDED, *DEFENSES)},
        }
        for each in (UNDEFENDED, *DEFENSES):
            with _peak(vlm) as peak, attached(each), torch.no_grad():
                vlm.generate(inputs, max_new_tokens=2)
            found["memory"][each]["apply_gb"] = peak()
        return found

    return {
        **{each: partial(prefill, each) for each in (UNDEFENDED, *DEFENSES)},
        FACTS: _once(facts),
    }


def _once(count: Callable[[], Entry]) -> Callable[[], Entry]:
    """Facts do not differ between rounds."""
    kept: list[Entry] = []

    def found() -> Entry:
        if not kept:
            kept.append(count())
        return kept[0]

    return found


def _now(vlm: Any) -> float:
    if vlm.device.type == "cuda":
        import torch

        torch.cuda.synchronize()
    return time.perf_counter()


@contextmanager
def _peak(vlm: Any) -> Iterator[Callable[[], float]]:
    """The peak memory inside, in gigabytes."""
    from safesight.compare.overhead import peak_memory

    with peak_memory(vlm) as peak:
        yield lambda: significant(peak.bytes / 1e9)


@contextmanager
def _parts(vlm: Any) -> Iterator[Callable[[], Entry]]:
    """Inside, one forward pass; the seconds of its vision tower and of its decoder's blocks."""
    tower = vlm.family.part(vlm.model, "vision")
    marks: dict[str, float] = {}

    def mark(name: str, *_: Any) -> None:
        marks.setdefault(name, _now(vlm))  # the first time: a replay runs blocks again

    hooks = [
        tower.register_forward_pre_hook(lambda *_: mark("vision")),
        tower.register_forward_hook(lambda *_: mark("seen")),
        vlm.layers[0].register_forward_pre_hook(lambda *_: mark("first")),
        vlm.layers[-1].register_forward_hook(lambda *_: mark("last")),
    ]
    try:
        yield lambda: {
            "vision_seconds": marks["seen"] - marks["vision"],
            "block_seconds": marks["last"] - marks["first"],
        }
    finally:
        for hook in hooks:
            hook.remove()


def _step(vlm: Any, inputs: Any) -> dict[str, float]:
    """Seconds of a decoding step, and of the blocks in it: the medians of a few."""
    import torch

    ends: list[float] = []
    blocks: list[float] = []
    begin: list[float] = []

    def before(*_: Any) -> None:
        begin[:] = [_now(vlm)]

    def after(*_: Any) -> None:
        ends.append(_now(vlm))
        blocks.append(ends[-1] - begin[0])

    hooks = [
        vlm.layers[0].register_forward_pre_hook(before),
        vlm.layers[-1].register_forward_hook(after),
    ]
    try:
        with torch.no_grad():
            vlm.generate(inputs, max_new_tokens=STEPS + 2)
    finally:
        for hook in hooks:
            hook.remove()
    steps = [two - one for one, two in pairwise(ends[1:])]
    return {"whole": statistics.median(steps), "blocks": statistics.median(blocks[2:])}


def _flops(vlm: Any, inputs: Any, attached: Any) -> dict[str, int]:
    """FLOPs of a prefill: all, those of the vision tower, and of the blocks."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), attached, FlopCounterMode(display=False, depth=None) as counter:
        vlm.generate(inputs, max_new_tokens=1)
    return _counted(vlm, counter)


def _step_flops(vlm: Any, inputs: Any) -> dict[str, int]:
    """FLOPs of the second step less those of the first: one decoding step."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    counts = []
    for length in (1, 2):
        with torch.no_grad(), FlopCounterMode(display=False, depth=None) as counter:
            vlm.generate(inputs, max_new_tokens=length)
        counts.append(_counted(vlm, counter))
    return {part: counts[1][part] - counts[0][part] for part in counts[0]}


def _counted(vlm: Any, counter: Any) -> dict[str, int]:
    names = {id(module): name for name, module in vlm.model.named_modules()}
    root = type(vlm.model).__name__
    found = {name: sum(each.values()) for name, each in counter.get_flop_counts().items()}

    def of(module: Any) -> int:
        # The tower may be called before the model is, and then goes by the name of its class.
        inside = found.get(f"{root}.{names[id(module)]}", 0)
        return int(inside or found.get(type(module).__name__, 0))

    return {
        "whole": int(counter.get_total_flops()),
        "vision": of(vlm.family.part(vlm.model, "vision")),
        "blocks": sum(map(of, vlm.layers)),
    }


def scaled(entries: Sequence[Entry]) -> list[Entry]:
    """One line per shape and defense: what it adds, as shares of a prefill and of an answer.

    A prefill at full depth is its vision tower, its blocks and the rest, each scaled by the
    number of its blocks. What `sasa` adds is scaled by the blocks that it runs again. The rest does
    not depend on depth.
    """
    lines = []
    for case in dict.fromkeys(e["case"] for e in entries if e["row"] == ROW.name):
        own = [e for e in entries if (e["row"], e["case"]) == (ROW.name, case)]
        facts = next((e for e in own if e["arm"] == FACTS), None)
        if facts is None:
            continue
        bare = {e["round"]: e for e in own if e["arm"] == UNDEFENDED}
        depth = facts["all_layers"] / facts["layers"]
        vision = facts["vision_share"]
        step = facts["step_seconds"]
        steps = (ANSWER - 1) * (step["whole"] + (depth - 1) * step["blocks"])
        work = facts["step_flops"]
        later = (ANSWER - 1) * (work["whole"] + (depth - 1) * work["blocks"])
        first = _whole(facts["flops"][UNDEFENDED], depth, vision)
        for arm in DEFENSES:
            deep = facts["all_replayed"] / facts["replayed"] if arm == "sasa" else 1.0
            pairs = [(e, bare[e["round"]]) for e in own if e["arm"] == arm and e["round"] in bare]
            shares = [_share(one, other, deep, (depth, vision), steps) for one, other in pairs]
            more = deep * (facts["flops"][arm]["whole"] - facts["flops"][UNDEFENDED]["whole"])
            lines.append(
                {
                    "shape": case,
                    "defense": arm,
                    "layers": facts["layers"],
                    "rounds": len(pairs),
                    "prefill": _spread([each[0] for each in shares]),
                    "answer": _spread([each[1] for each in shares]),
                    "prefill_flops": significant(more / first, 3),
                    "answer_flops": significant(more / (first + later), 3),
                    **facts["memory"][arm],
                    "bare_gb": facts["memory"][UNDEFENDED]["apply_gb"],
                }
            )
    return lines


def _share(
    one: Entry, bare: Entry, deep: float, depths: tuple[float, float], steps: float
) -> tuple[float, float]:
    """What one arm adds in one round, over a prefill and over an answer."""
    seconds = {
        "whole": bare["seconds"],
        "vision": bare["vision_seconds"],
        "blocks": bare["block_seconds"],
    }
    whole = _whole(seconds, *depths)
    added = deep * (one["seconds"] - bare["seconds"])
    return added / whole, added / (whole + steps)


def _whole(parts: Any, depth: float, vision: float) -> float:
    """A prefill at full depth."""
    return float(parts["whole"] + (depth - 1) * parts["blocks"] + (vision - 1) * parts["vision"])


def _spread(values: Sequence[float]) -> list[float]:
    """Median, smallest and largest."""
    return [round(each, 4) for each in (statistics.median(values), min(values), max(values))]


def _made(told: dict[str, Any]) -> Arms:
    return shape_arms(told["name"], told["device"], told["layers"], told["tokens"])


@contextmanager
def _started(arguments: Any, case: str) -> Iterator[Arms]:
    told = {
        "name": case,
        "device": "cpu",
        "layers": 4 if arguments.small else FEW,
        "tokens": PROMPT,
    }
    with ExitStack() as stack:
        yield stack.enter_context(answering(lambda: Worker(sys.executable, __file__, told)))


def _pairs(case: str, arms: Sequence[str]) -> list[Pair]:
    return [Pair(each, UNDEFENDED) for each in DEFENSES]


ROW = Row("real shapes", ("Qwen2.5-VL-3B", "LLaVA-1.5-7B"), _started, _pairs, rounds=5)

if __name__ == "__main__":
    work(_made)
