"""Measures `testbed-smol`: `python -m safesight.testbed.smol.measure`.

What it names in the drawing styles of its training and in those kept out, what it answers about
pictures in phrasings that it learned and in others, what it refuses in text, and what training cost
the language model. Judge `rules` says what is a refusal. XSTest is read from the folder that
`SAFESIGHT_DATA` names.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoProcessor, LlavaForConditionalGeneration

from safesight import registry
from safesight.files import write_text
from safesight.grammar import load_judge
from safesight.testbed.batches import PATCH_CLASSES, patch_classes
from safesight.testbed.concepts import BENIGN, CONCEPTS, Concept
from safesight.testbed.dialogues import some_scene
from safesight.testbed.measure import Bench, names, share, things
from safesight.testbed.scenes import Scene, objects_scene
from safesight.testbed.smol import language
from safesight.testbed.smol.benign import request
from safesight.testbed.smol.build import MODEL, UNGUARDED
from safesight.testbed.smol.harm import held_out
from safesight.testbed.smol.questions import KEPT_OUT, PHRASINGS, ask
from safesight.testbed.smol.trainer import word_table
from safesight.testbed.styles import FOREIGN, MORE, STYLES, drawn
from safesight.types import Label, Sample

__all__ = ["measure", "named_by_eye", "perplexity"]

_SEEN = tuple(thing for thing in CONCEPTS if thing.in_vision)
_TEXTS, _TOKENS = 24, 256
"""Number of plain texts, and tokens of each."""
_XSTEST = 450
"""All prompts of XSTest."""


def measure(folder: Path, *, n: int = 300, seed: int = 0) -> dict[str, Any]:
    """All numbers: rates with intervals over things, perplexities of both language models.

    Args:
        folder: A model, as `build` makes it.
        n: Samples of each kind.
        seed: Draws them.

    Raises:
        MissingExtraError: the package of the language model is not installed.
        InputError: a package that holds harmful requests is not installed, or XSTest is missing.
    """
    requests = _requests(n, seed)  # before minutes are spent, since they may be missing
    model = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    bench = Bench(model, AutoProcessor.from_pretrained(folder), longest=32)
    rng = random.Random(f"smol {seed}")
    result: dict[str, Any] = {}
    for key, styles in (("trained", (*STYLES, *MORE)), ("kept_out", FOREIGN)):
        asked = [_naming(index, rng, styles) for index in range(n)]
        result[f"named_{key}"] = _right(bench, asked)
    result["named_by_eye"] = named_by_eye(model, bench.processor, seed=seed)
    for key, phrasings in (("trained", PHRASINGS), ("kept_out", KEPT_OUT)):
        asked = [_question(index, rng, phrasings) for index in range(n)]
        result[f"questions_{key}_right"] = _right(bench, asked)
    result |= _refusals(bench, requests)
    result["perplexity"] = perplexity(model, bench.processor)
    untouched = language.read().model
    result["perplexity_untouched"] = perplexity(untouched, bench.processor)
    return result


def _right(bench: Bench, asked: Sequence[Sample]) -> dict[str, Any]:
    answers = [answer.lower() for answer in bench.answers(asked)]
    return share((names(a, s.target) for a, s in zip(answers, asked, strict=True)), things(asked))


def _sample(identity: str, question: str, scene: Scene, key: str, about: str) -> Sample:
    return Sample(identity, question, "benign", key, scene.render, facts={"concept": about})


def _naming(index: int, rng: random.Random, styles: Sequence[str]) -> Sample:
    style = styles[index % len(styles)]
    thing = rng.choice([one for one in _SEEN if one.name in drawn(style)])
    scene = objects_scene([thing], rng, styles=[style])
    question = rng.choice(PHRASINGS["name"])
    return _sample(f"name/{style}/{index}", question, scene, thing.name, thing.name)


def _question(index: int, rng: random.Random, phrasings: dict[str, tuple[str, ...]]) -> Sample:
    scene = some_scene(rng, [one for one in BENIGN if one.in_vision], words=0.28, single=0.44)
    question, _, key = ask(scene, rng, phrasings)
    about = scene.word or scene.items[0].concept
    return _sample(f"question/{index}", question, scene, key, about)


def _requests(n: int, seed: int) -> dict[str, list[Sample]]:
    """Harmful requests kept out of training, and harmless ones, each kind under its key."""
    rng = random.Random(f"smol text {seed}")
    alike: list[Sample] = registry.load("benchmark", "xstest")(_XSTEST)
    return {
        "harmful_text_refused": _asked("harmful", held_out()[:n]),
        "benign_text_refused": _asked("benign", sorted({request(rng) for _ in range(n)})),
        "xstest_safe_refused": [sample for sample in alike if sample.label == "benign"],
        "xstest_unsafe_refused": [sample for sample in alike if sample.label == "harmful"],
    }


def _refusals(bench: Bench, requests: dict[str, list[Sample]]) -> dict[str, Any]:
    """The share of each kind that is refused in text."""
    judge = load_judge("rules")
    result = {}
    for key, asked in requests.items():
        verdicts = [judge(a, s) for a, s in zip(bench.answers(asked), asked, strict=True)]
        result[key] = share((verdict == "refused" for verdict in verdicts), things(asked))
    return result


def _asked(label: Label, requests: Sequence[str]) -> list[Sample]:
    return [Sample(f"{label}/{i}", text, label, "") for i, text in enumerate(requests)]


@torch.no_grad()
def named_by_eye(
    model: Any,
    processor: Any,
    *,
    styles: Sequence[str] = (*STYLES, *MORE, *FOREIGN),
    seed: int = 0,
) -> dict[str, float]:
    """Share of things whose drawing the eye tells apart, by style; the language model is not asked.

    A picture is named by the word that its visual tokens on the thing are closest to, on average.

    Args:
        model: The model.
        processor: Its processor.
        styles: The drawing styles.
        seed: Places the things.
    """
    table = word_table(model, processor.tokenizer)
    middle = table.mean(0)
    words = F.normalize(table - middle, dim=-1)[: len(CONCEPTS)]
    result = {}
    for style in styles:
        rng = random.Random(f"{style}/{seed}")
        shown = [one for one in _SEEN if one.name in drawn(style)]
        hits = 0
        for thing, scene, tokens in _looked(model, processor, shown, style, rng):
            on_it = tokens[patch_classes(scene) == thing.index] - middle
            closest = F.normalize(on_it, dim=-1) @ words.T
            hits += PATCH_CLASSES[int(closest.mean(0).argmax())] == thing.name
        result[style] = round(hits / len(shown), 3)
    return result


def _looked(
    model: Any, processor: Any, shown: Sequence[Concept], style: str, rng: random.Random
) -> Iterator[tuple[Concept, Scene, Tensor]]:
    """Each thing with a picture of it and the visual tokens of that."""
    for start in range(0, len(shown), 50):
        part = shown[start : start + 50]
        scenes = [objects_scene([thing], rng, styles=[style]) for thing in part]
        pictures = processor.image_processor(
            [scene.render() for scene in scenes], return_tensors="pt"
        )["pixel_values"]
        seen = model.model.get_image_features(pixel_values=pictures).pooler_output
        yield from zip(part, scenes, seen, strict=True)


@torch.no_grad()
def perplexity(model: Callable[..., Any], processor: Any) -> float:
    """The perplexity of plain English: pages of Python's own manual, which come with it.

    Args:
        model: A language model, or one that takes pictures and gets none.
        processor: Its processor.
    """
    losses = []
    for name in sorted(topics)[:: max(1, len(topics) // _TEXTS)]:
        page = topics[name][: 8 * _TOKENS]  # a token has fewer letters
        ids = processor.tokenizer(page, return_tensors="pt")["input_ids"][:, :_TOKENS]
        losses.append(float(model(input_ids=ids, labels=ids).loss))
    return round(float(torch.tensor(losses).mean().exp()), 3)


def main() -> None:
    """Command line: measure the model that ships and the same without the safety stage."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--n", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/smol.json"))
    arguments = parser.parse_args()
    found = [
        {"arm": each.name, **measure(each.ready(), n=arguments.n, seed=arguments.seed)}
        for each in (MODEL, UNGUARDED)
    ]
    head = {"n": arguments.n, "seed": arguments.seed, "dtype": "float32"}
    write_text(arguments.out, json.dumps({**head, "summary": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
