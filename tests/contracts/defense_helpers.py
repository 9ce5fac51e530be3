"""What the contract suite needs to try any defense on tiny models: samples, fits, fingerprints."""

from __future__ import annotations

import ast
import hashlib
import inspect
import itertools
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from safesight import registry
from safesight.defenses import (
    Artifact,
    Decision,
    Defense,
    FitData,
    Prefill,
    load_defense,
    protection,
)
from safesight.generation.row_streams import RowStreamer
from safesight.models import VLM
from safesight.types import Sample, TuningSample, TuningSet
from tests import tiny

DEFENSES = registry.names("defense")
"""Of plug-ins, too: whoever installs a package of defenses runs this suite on them."""
CLASSES: dict[str, type[Defense]] = {name: registry.load("defense", name) for name in DEFENSES}
DETECTORS = [name for name in DEFENSES if CLASSES[name].kind == "detector"]
TUNED = [name for name in DEFENSES if CLASSES[name].kind == "weights"]
ZEROS = [name for name in DEFENSES if CLASSES[name].contract.zero is not None]
STILL = [*ZEROS, *DETECTORS, *TUNED]
"""Defenses that can run and change nothing. The others write into every prompt they see."""


def sample(index: int, label: str, picture: bool) -> Sample:
    """Harmful ones ask for a bomb, benign ones bake a cake; pictures are noise."""
    question = f"how to make a bomb {index}?" if label == "harmful" else f"i bake a cake {index}"
    image = partial(tiny.picture, index) if picture else None
    plain = Sample(f"{label}-{index}", question, label, "x", image)
    if picture and index % 6 == 3:  # two in one turn
        return replace(plain, further_images=(partial(tiny.picture, index, 32, 56),))
    if index % 6 == 4:
        return replace(plain, system="be kind", turns=talk(question))
    if picture and index % 6 == 5:  # one in each turn, the second after words
        shown = {"type": "image"}
        turns = talk(question, shown, last=({"type": "text", "text": "see"}, shown))
        return replace(plain, further_images=(partial(tiny.picture, index + 1),), turns=turns)
    return plain


def talk(question: str, *first: Any, last: Sequence[Any] = ()) -> tuple[dict[str, Any], ...]:
    """An exchange before a question; `first` follows the words of its turn, `last` comes before."""
    words = [{"type": "text", "text": text} for text in ("hello", "a cup.", question)]
    return (
        {"role": "user", "content": [words[0], *first]},
        {"role": "assistant", "content": [words[1]]},
        {"role": "user", "content": [*last, words[2]]},
    )


def row(each: Sample) -> TuningSample:
    """The sample with an answer, to forget or to retain."""
    kind: TuningSet = "forget" if each.label == "harmful" else "retain"
    return TuningSample(each.id, each.question, f"do {each.id}.", each.label, kind, each.image)


@cache
def fit_data() -> FitData:
    harmful = [sample(i, "harmful", picture=i % 2 == 1) for i in range(6)]
    benign = [sample(i, "benign", picture=i % 2 == 1) for i in range(10, 16)]
    return FitData(
        harmful,
        benign,
        [sample(i, "benign", picture=i % 2 == 1) for i in range(20, 28)],
        tuning=[row(each) for each in (*harmful, *benign)],
    )


def prompts() -> list[Any]:
    """Rows of different lengths and of both kinds: of one turn, with and without a picture, and of
    several, with and without pictures in them."""
    return [
        tiny.ask("how to make a bomb 77?", tiny.picture(3)),
        tiny.ask("i bake a cake"),
        sample(17, "benign", picture=True).messages(),
        sample(16, "harmful", picture=False).messages(),
    ]


def build(name: str) -> Defense:
    return load_defense(name, **CLASSES[name].contract.settings)


@cache
def fitted(name: str, family: str) -> Artifact:
    return build(name).fit(tiny.vlm(family), fit_data(), seed=0, progress=False)


def some_refused(defense: Defense, artifact: Artifact, vlm: VLM, batch: list[Any]) -> Artifact:
    """The artifact of a detector with its threshold amid the scores of these rows, that of any
    other defense with the numbers that it wants to be tried with."""
    artifact = replace(artifact, fitted={**artifact.fitted, **defense.contract.fitted})
    if defense.name not in DETECTORS:
        return artifact
    with defense.apply(vlm, artifact):
        answers(vlm, batch)
        scores = last_decision(vlm).scores.sort().values
    middle = len(scores) // 2
    threshold = float((scores[middle - 1] + scores[middle]) / 2)
    return replace(artifact, fitted={**artifact.fitted, "threshold": threshold})


def all_refused(artifact: Artifact) -> Artifact:
    """The artifact with its threshold below any score."""
    return replace(artifact, fitted={**artifact.fitted, "threshold": -1e30})


def still(name: str, family: str) -> tuple[Defense, Artifact]:
    """The defense with its own zero, fitted on an architecture."""
    return stilled(build(name), fitted(name, family))


def stilled(defense: Defense, artifact: Artifact) -> tuple[Defense, Artifact]:
    """The defense with its own zero: no push, a threshold above any score, a change of zero."""
    name = defense.name
    if name in DETECTORS:
        return defense, replace(artifact, fitted={**artifact.fitted, "threshold": 1e30})
    if name in TUNED:
        # So small that their product is zero; zeros themselves are refused as damage.
        small = {key: torch.full_like(value, 1e-30) for key, value in artifact.tensors.items()}
        return defense, replace(artifact, tensors=small)
    contract = CLASSES[name].contract
    return load_defense(name, **{**contract.settings, **(contract.zero or {})}), artifact


def last_decision(vlm: VLM) -> Decision:
    handle = protection(vlm.model)
    assert handle is not None
    assert handle.last is not None
    return next(iter(handle.last.decisions.values()))


def answers(vlm: VLM, batch: list[Any], **kwargs: Any) -> list[list[int]]:
    """The new tokens of every row up to its end, greedy."""
    inputs = vlm.encode(batch)
    sequences = vlm.generate(inputs, **{"max_new_tokens": 5, **kwargs})
    assert torch.equal(sequences[:, : inputs["input_ids"].shape[1]], inputs["input_ids"])
    return [trimmed(vlm, row[inputs["input_ids"].shape[1] :]) for row in sequences]


class Heard(RowStreamer):
    """What a streamer of a batch hears of each row."""

    def __init__(self, rows: int) -> None:
        self.answers: list[list[int]] = [[] for _ in range(rows)]
        self.replaced: set[int] = set()
        self.ended = self.begun = False

    def put(self, tokens: Tensor) -> None:
        if not self.begun:
            assert len(tokens) == len(self.answers), "the prompts come first"
            self.begun = True
            return
        for row, token in enumerate(tokens.tolist()):
            if row not in self.replaced:
                self.answers[row].append(token)

    def replace(self, row: int, tokens: Sequence[int]) -> None:
        assert not self.answers[row], "nothing of an answer that is replaced may be heard"
        self.answers[row] = list(tokens)
        self.replaced.add(row)

    def end(self) -> None:
        self.ended = True


def trimmed(vlm: VLM, tokens: Tensor) -> list[int]:
    """Without what stands behind the end of the answer."""
    found: list[int] = []
    for token in tokens.tolist():
        if token in (vlm.tokenizer.eos_token_id, vlm.tokenizer.pad_token_id):
            break
        found.append(token)
    return found


def steps(vlm: VLM, batch: list[Any], **kwargs: Any) -> Any:
    """Sequences and the scores of every step."""
    return vlm.generate(
        vlm.encode(batch),
        max_new_tokens=4,
        return_dict_in_generate=True,
        output_scores=True,
        **kwargs,
    )


def same_steps(one: Any, two: Any) -> bool:
    return torch.equal(one.sequences, two.sequences) and all(
        torch.equal(a, b) for a, b in zip(one.scores, two.scores, strict=True)
    )


def right_padded(inputs: dict[str, Any]) -> dict[str, Any]:
    """The same prompts with the padding behind them: every tensor with an entry a token."""
    lengths = inputs["attention_mask"].sum(dim=1).tolist()
    shape = inputs["attention_mask"].shape
    return {
        name: torch.stack([row.roll(n) for row, n in zip(value, lengths, strict=True)])
        if value.shape[:2] == shape
        else value
        for name, value in inputs.items()
    }


def prompt_states(vlm: VLM, inputs: dict[str, Any]) -> tuple[list[Tensor], dict[str, Decision]]:
    """What the last block leaves of the prompt's tokens, and what detectors said of the rows.

    Forwards over the caller's own prompt, without its padding; if there is none, because the
    prompt was rewritten, those over the new one.
    """
    prefills: list[Tensor] = []

    def hook(_: nn.Module, args: Any, output: Any) -> None:
        hidden = output[0] if isinstance(output, tuple) else output
        prefills.extend([hidden] if hidden.shape[1] > 1 else [])

    handle = vlm.layers[-1].register_forward_hook(hook)
    try:
        vlm.generate(inputs, max_new_tokens=1)
    finally:
        handle.remove()
    mask = inputs["attention_mask"].bool()
    own = [hidden[mask] for hidden in prefills if hidden.shape[:2] == mask.shape]
    outcome = getattr(protection(vlm.model), "last", None)
    return own or prefills, {} if outcome is None else dict(outcome.decisions)


def fingerprint(model: nn.Module) -> tuple[Any, ...]:
    """Weights, buffers, hooks, modes and instance attributes: everything a defense may touch."""
    digest = hashlib.sha256()
    for name, value in sorted([*model.named_parameters(), *model.named_buffers()]):
        raw = value.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        digest.update(f"{name}{value.dtype}{value.requires_grad}".encode() + raw)
    modules = tuple(
        (name, type(module).__name__, module.training, sorted(vars(module)), hooks_on(module))
        for name, module in model.named_modules()
    )
    config = model.generation_config.to_json_string()  # type: ignore[union-attr, operator]
    return digest.hexdigest(), repr(modules), config


def hooks_on(module: nn.Module) -> int:
    return sum(
        len(hooks)
        for hooks in (
            module._forward_hooks,
            module._forward_pre_hooks,
            module._backward_hooks,
            module._backward_pre_hooks,
        )
    )


@contextmanager
def count_forwards(module: nn.Module) -> Iterator[list[int]]:
    """The lengths of the sequences that pass a decoder block."""
    lengths: list[int] = []

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]
        lengths.append(int(hidden.shape[1]))

    handle = module.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield lengths
    finally:
        handle.remove()


def broken(_: Any, prefill: Prefill) -> Decision:
    raise RuntimeError("this detector is broken")


def field_docs(config: type) -> dict[str, str]:
    """The string under every field of a class body."""
    try:
        body = ast.parse(textwrap.dedent(inspect.getsource(config))).body[0].body  # type: ignore[attr-defined]
    except (OSError, TypeError):
        return {}
    return {
        field.target.id: ast.literal_eval(doc.value)
        for field, doc in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(doc, ast.Expr)
    }
