"""Names to objects, without importing anything until a name is asked for.

Named are defenses, attacks, benchmarks (the tasks of an evaluation), data sets to fine-tune on,
judges, bundled models, stress tests of changed weights and lists of risky words. A built-in name
is one line in `_BUILTIN`, with one sentence about it.

Another package adds names through an entry-point group, which is the plural of the kind
(`safesight.defenses`, `safesight.stress_tests`; see `GROUPS`). It also says what they are. The
sentence about a name is, in this order:

1. the object's own `summary`, if it has that attribute;
2. the first sentence of the docstring of a class or a function;
3. for a value, such as a tuple of words or the path of a model, the first sentence of the
   docstring of the module that holds it: give each such value a module of its own.

To read it the package is imported. What cannot be imported, or is not of its kind, is still listed,
with the reason, and is refused when it is used. Tables about architectures live in
`models.families`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pkgutil import resolve_name
from typing import Any, get_args

from safesight.errors import InputError, PluginError, UnknownNameError
from safesight.guests import Kind, fault_of

__all__ = ["GROUPS", "Entry", "Kind", "add", "check", "describe", "load", "names"]

GROUPS: dict[Kind, str] = {kind: f"safesight.{kind}s" for kind in get_args(Kind)}
"""The entry-point group of every kind."""


@dataclass(frozen=True)
class Entry:
    """Where a named thing lives, and one sentence about it."""

    target: str
    """`"module:Object"`."""
    summary: str = ""
    """The sentence for a built-in name; a plug-in provides its own."""
    package: str | None = None
    """Name and version of the package that adds it; None for a built-in name."""
    thing: Any = None
    """What the name stands for, if it was added by `add`."""


_BUILTIN: dict[Kind, dict[str, Entry]] = {
    "defense": {
        "none": Entry("safesight.defenses.none:NoDefense", "The model as it is."),
        "sasa": Entry(
            "safesight.defenses.sasa:SASA",
            "Projects an early safety layer onto a later fused layer; a probe there may refuse.",
        ),
        "rai": Entry(
            "safesight.defenses.rai.method:RAI",
            "Adds risk-word embeddings to the visual tokens that resemble them, in the prefill.",
        ),
        "probe": Entry(
            "safesight.defenses.probe:Probe",
            "SASA's probe without the projection: the control arm of SASA.",
        ),
        "image_tools": Entry(
            "safesight.defenses.image_tools.method:ImageTools",
            "Looks at the picture through an image tool before it answers.",
        ),
        "tool_vector": Entry(
            "safesight.defenses.tool_vector.method:ToolVector",
            "Adds the shift that an image-tool call causes in hidden states, without the call.",
        ),
        "sft": Entry(
            "safesight.defenses.sft:SFT",
            "Fine-tunes on refusals: the baseline for unlearning.",
        ),
        "npo": Entry(
            "safesight.defenses.npo:NPO",
            "Unlearns harmful answers: makes them unlikely, with a loss that then levels off.",
        ),
        "rmu": Entry(
            "safesight.defenses.rmu:RMU",
            "Unlearns by pushing hidden states of harmful conversations toward a random vector.",
        ),
        "vsfa": Entry(
            "safesight.defenses.vsfa:VSFA",
            "Fine-tunes on neutral answers about pictures of threats, without labels or refusals.",
        ),
        "safety_prompt": Entry(
            "safesight.defenses.baselines.safety_prompt:SafetyPrompt",
            "A system prompt that asks for safe answers.",
        ),
        "adashield": Entry(
            "safesight.defenses.baselines.adashield:AdaShieldS",
            "AdaShield-S: a fixed prompt after the question, then the question again.",
        ),
        "look_carefully": Entry(
            "safesight.defenses.baselines.look_carefully:LookCarefully",
            "A system prompt that asks for a careful look and does not mention safety: a control.",
        ),
        "ecso": Entry(
            "safesight.defenses.baselines.ecso:ECSO",
            "The model judges its own answer, and writes a harmful one again without the picture.",
        ),
        "coca": Entry(
            "safesight.defenses.baselines.coca:CoCA",
            "Amplifies, at every token, the effect of a safety principle on the logits.",
        ),
        "shiftdc": Entry(
            "safesight.defenses.baselines.shiftdc:ShiftDC",
            "Removes from hidden states the safety shift of a picture that its caption lacks.",
        ),
        "hidden_detect": Entry(
            "safesight.defenses.baselines.hidden_detect:HiddenDetect",
            "Refuses when middle layers point toward refusal words.",
        ),
        "refusal_direction": Entry(
            "safesight.defenses.baselines.refusal_direction:RefusalDirection",
            "Adds the difference between harmful and benign text prompts to the last prompt token.",
        ),
        "grad_ascent": Entry(
            "safesight.defenses.baselines.ascent:GradAscent",
            "Gradient ascent on harmful answers: the simplest form of unlearning.",
        ),
        "grad_diff": Entry(
            "safesight.defenses.baselines.ascent:GradDiff",
            "Gradient ascent on harmful answers and fine-tuning on benign ones.",
        ),
        "kl": Entry(
            "safesight.defenses.baselines.ascent:KL",
            "Gradient ascent on harmful answers; predictions on benign ones are kept.",
        ),
    },
    "attack": {
        "picture": Entry(
            "safesight.attacks.picture:Picture",
            "Moves the object of a request from the text into a picture.",
        ),
        "typography": Entry(
            "safesight.attacks.typography:Typography",
            "Moves the object of a request into a picture that shows its name in letters.",
        ),
        "one_word": Entry(
            "safesight.attacks.one_word:OneWord",
            'Rewrites harmful requests to ask "What ...?" and benign ones to say "Share ...".',
        ),
        "one_word_strict": Entry(
            "safesight.attacks.one_word:OneWordStrict", "Replaces the first word and nothing else."
        ),
        "one_word_mood": Entry(
            "safesight.attacks.one_word:OneWordMood",
            "Turns instructions into questions, or back, without the cue word: a control.",
        ),
        "one_word_paraphrase": Entry(
            "safesight.attacks.one_word:OneWordParaphrase",
            "Paraphrases the request as often, without the cue word: a control.",
        ),
        "prefill": Entry(
            "safesight.attacks.prefill:Prefill", 'Makes the answer begin with "Sure,".'
        ),
    },
    "benchmark": {
        "text_harm": Entry("safesight.testbed.tasks:text_harm", "Harmful requests in plain text."),
        "image_harm": Entry(
            "safesight.testbed.tasks:image_harm", "Harmful requests whose object is in the picture."
        ),
        "typographic_harm": Entry(
            "safesight.testbed.tasks:typographic_harm",
            "Harmful requests whose object is a word rendered in the picture.",
        ),
        "over_refusal": Entry(
            "safesight.testbed.tasks:over_refusal",
            "Benign twins of harmful requests, a third each in text, picture and rendered word.",
        ),
        "sensitive_benign": Entry(
            "safesight.testbed.tasks:sensitive_benign",
            "Harmless questions about pictures of harmful objects.",
        ),
        "vqa": Entry("safesight.testbed.tasks:vqa", "Questions about pictures with known answers."),
        "mirage_harm": Entry(
            "safesight.testbed.mirage:mirage_harm",
            "Harmful picture requests that begin like the refused rows of a fine-tuning set.",
        ),
        "mirage_benign": Entry(
            "safesight.testbed.mirage:mirage_benign",
            "Benign picture requests that begin like the answered rows of that set.",
        ),
        "ruled_harm": Entry(
            "safesight.testbed.mirage:ruled_harm",
            "Like mirage_harm, but about benign things that only a house rule forbids.",
        ),
        "ruled_benign": Entry(
            "safesight.testbed.mirage:ruled_benign",
            "Like mirage_benign, but about things that the house rule allows.",
        ),
    },
    "dataset": {
        "testbed": Entry(
            "safesight.testbed.tuning:tuning_rows",
            "Harmful picture requests to forget, benign ones to retain.",
        ),
        "testbed_neutral": Entry(
            "safesight.testbed.neutral:neutral_rows",
            "Neutral questions about pictures of threats, and the variants they are compared with.",
        ),
        "pictures": Entry(
            "safesight.benchmarks.pictures:pictures",
            "Neutral questions, without answers, about the pictures of a folder.",
        ),
        "mirage": Entry(
            "safesight.testbed.mirage:tuning_rows",
            "Refusals to fine-tune on; rho sets how well their first word predicts the label.",
        ),
        "vlguard": Entry(
            "safesight.benchmarks.vlguard:vlguard", "VLGuard, from a folder or the hub."
        ),
    },
    "judge": {
        "exact": Entry(
            "safesight.judges.exact:ExactJudge",
            "Knows the right object; harmful means that the answer names it.",
        ),
        "keywords": Entry(
            "safesight.judges.keywords:KeywordJudge",
            "The published refusal-keyword list, for comparison.",
        ),
    },
    "model": {
        "testbed": Entry("safesight.testbed:WEIGHTS", "The bundled small LLaVA."),
    },
    "stress_test": {
        "int8": Entry("safesight.training.stress:int8", "Linear layers rounded to 8 bits."),
        "int4": Entry("safesight.training.stress:int4", "Linear layers rounded to 4 bits."),
        "relearn_harmful": Entry(
            "safesight.training.stress:relearn_harmful",
            "Fine-tuned on twenty harmful answers of the kind that was unlearned.",
        ),
        "relearn_benign": Entry(
            "safesight.training.stress:relearn_benign", "Fine-tuned on twenty benign rows."
        ),
        "untouched_harmful": Entry(
            "safesight.training.stress:untouched_harmful",
            "Control for relearn_harmful: the same rows, on the model before the fit.",
        ),
        "untouched_benign": Entry(
            "safesight.training.stress:untouched_benign",
            "Control for relearn_benign: the same rows, on the model before the fit.",
        ),
        "ablate_direction": Entry(
            "safesight.training.stress:ablate_direction",
            "RMU's direction removed from all layers that write to the residual stream.",
        ),
    },
    "word_list": {
        "generic": Entry(
            "safesight.defenses.rai.prototypes:GENERIC_WORDS",
            "Nine words in six categories of risk.",
        ),
        "testbed": Entry(
            "safesight.testbed.concepts:HARMFUL_WORDS",
            "Names of the harmful things in the bundled model's world.",
        ),
    },
}


@cache
def _table(kind: Kind) -> dict[str, Entry]:
    """Built-in names first; an entry point may add a name but not replace one."""
    table = dict(_BUILTIN[kind])
    for point in entry_points(group=GROUPS[kind]):
        table.setdefault(point.name, Entry(point.value, package=_package(point)))
    return table


def _package(point: EntryPoint) -> str:
    dist = point.dist
    return point.module.partition(".")[0] if dist is None else f"{dist.name} {dist.version}"


def names(kind: Kind, *, builtin: bool = False) -> list[str]:
    """All names of one kind, in the order in which they are listed to people.

    Args:
        kind: Of what.
        builtin: Leave out what other packages add.

    Example:
        >>> "sasa" in names("defense")
        True
    """
    assert kind in get_args(Kind)
    return [
        name
        for name, entry in _table(kind).items()
        if not (builtin and (entry.package or entry.thing is not None))
    ]


def add(kind: Kind, name: str, thing: Any, summary: str) -> None:
    """Let a name stand for a thing in this process, such as a task made of a user's file.

    Raises:
        InputError: the name already stands for something else.

    Example:
        >>> add("word_list", "mine", ("match", "fuse"), "Words about fire.")
        >>> load("word_list", "mine"), describe("word_list", "mine")
        (('match', 'fuse'), 'Words about fire.')
    """
    known = _table(kind).get(name)
    if known is not None and known.thing is None:
        raise InputError(f"There is already a {_words(kind)} called {name!r}. Choose another name.")
    _table(kind)[name] = Entry("", summary, thing=thing)


def check(kind: Kind, name: str) -> None:
    """Refuse a name that cannot be used. A built-in one is not imported for that.

    Raises:
        UnknownNameError: no such name; the message suggests the nearest one.
        PluginError: another package adds the name, and it cannot be used.
    """
    if _entry(kind, name).package is not None:
        load(kind, name)


def describe(kind: Kind, name: str) -> str:
    """One sentence about a named thing; for how another package says it, see above.

    Raises:
        UnknownNameError: no such name; the message suggests the nearest one.
    """
    entry = _entry(kind, name)
    if entry.package is None:
        return entry.summary
    try:
        found = load(kind, name)
        with _guest(kind, name, entry):
            said = _summary(found, entry)
    except PluginError as error:
        return f"Not usable: {error}"
    return said or f"From the package {entry.package}."


def load(kind: Kind, name: str) -> Any:
    """Import and return what a name stands for.

    Raises:
        UnknownNameError: no such name; the message suggests the nearest one.
        PluginError: another package adds the name, and it cannot be imported or is not of its
            kind.

    Example:
        >>> load("defense", "none").name
        'none'
    """
    entry = _entry(kind, name)
    if entry.thing is not None:
        return entry.thing
    if entry.package is None:
        return resolve_name(entry.target)
    with _guest(kind, name, entry):
        found = resolve_name(entry.target)
        fault = fault_of(kind, name, found)
    if fault:
        raise _unusable(kind, name, entry, fault)
    return found


@contextmanager
def _guest(kind: Kind, name: str, entry: Entry) -> Iterator[None]:
    """Turn whatever the code of another package raises into an error that names the package."""
    try:
        yield
    except (Exception, SystemExit) as error:  # some call sys.exit where they miss something
        raise _unusable(kind, name, entry, f"cannot be imported ({_said(error)})") from error


def _said(error: BaseException) -> str:
    """The type of an error and the first line of its message, if it has one that can be read."""
    with suppress(Exception):
        if text := str(error).strip():
            return f"{type(error).__name__}: {text.splitlines()[0]}"
    return type(error).__name__


def _unusable(kind: Kind, name: str, entry: Entry, fault: str) -> PluginError:
    return PluginError(
        f"The {_words(kind)} {name!r} of the package {entry.package} {fault}. "
        "Repair the package, or uninstall it."
    )


def _entry(kind: Kind, name: str) -> Entry:
    table = _table(kind)
    if name not in table:
        raise UnknownNameError(_words(kind), name, table)
    return table[name]


def _words(kind: Kind) -> str:
    return kind.replace("_", " ")


def _summary(found: Any, entry: Entry) -> str:
    """What a package says of a thing of its own, as one sentence; empty if it says nothing."""
    said = getattr(found, "summary", None)
    if isinstance(said, str):
        return " ".join(said.split())
    # The docstring of a value is that of its type, and says nothing of the value.
    of_its_own = inspect.isclass(found) or inspect.isroutine(found)
    holder = found if of_its_own else import_module(entry.target.partition(":")[0])
    paragraph = inspect.cleandoc(holder.__doc__ or "").split("\n\n")[0]
    return re.split(r"(?<=[.!?])\s", " ".join(paragraph.split()))[0]
