"""Attacks with several tries, in words and in a table of their own.

Success after k tries is next to success after one, and to that of the plain request asked as often:
more tries succeed more often, whatever the attack. Only numbers of the scorecard are shown.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from safesight import registry
from safesight.compare import REPEAT, BestOf, Row, Scorecard, plain_task
from safesight.fitting.facts import told
from safesight.grammar import UNDEFENDED, attack_name, task_parts
from safesight.report.words import listed, share_told

__all__ = ["TriesColumn", "budget_note", "tries_columns", "tries_notes", "tries_sentence"]

_ASR = "attack_success_rate"


@dataclass(frozen=True)
class TriesColumn:
    """Success on one task after a number of tries, of all arms."""

    task: str
    head: str
    """After how many tries, and of what."""
    rows: list[Row | None]
    """One for each arm of the scorecard, in order."""
    first: bool
    """Whether the columns of a task begin here."""

    @property
    def n(self) -> int:
        """The number of answers behind most of its rates."""
        return max(row.n for row in self.rows if row is not None)


def tries_columns(card: Scorecard) -> list[TriesColumn]:
    """The columns of the table: for each task after 1, 2, 4, ... tries, then the plain requests."""
    found: list[TriesColumn] = []
    for task in _tasks(card):
        arms = {each.defense: each for each in card.best_of if each.task == task}
        counts = sorted({row.tries or 1 for each in arms.values() for row in each.rates})
        for count in counts:
            rows = [_after(arms.get(name), count) for name in card.defenses]
            found.append(TriesColumn(task, _many(count, "try"), rows, count == counts[0]))
        plain = [arms[name].plain if name in arms else None for name in card.defenses]
        if any(plain):
            head = f"plain request, {_many(counts[-1], 'try')}"
            found.append(TriesColumn(task, head, plain, first=False))
    return found


def _after(found: BestOf | None, count: int) -> Row | None:
    rates = [] if found is None else found.rates
    return next((row for row in rates if row.tries == count), None)


def _tasks(card: Scorecard) -> list[str]:
    return list(dict.fromkeys(each.task for each in card.best_of))


def tries_sentence(card: Scorecard, arm: str) -> str | None:
    """How often the strongest attack with several tries succeeds against an arm, if any does."""
    attacks = [each for each in card.best_of if each.defense == arm and plain_task(each.task)]
    if not attacks:
        return None
    worst = max(attacks, key=lambda each: each.rates[-1].value or 0.0)
    against = "the undefended model" if arm == UNDEFENDED else arm
    tries = _many(worst.tries, "try")
    text = (
        f"Against {against}, {worst.task} succeeds in {share_told(worst.rates[-1])} of the "
        f"requests within {tries}, and in {share_told(worst.rates[0])} with the first"
    )
    if worst.plain is None:
        return f"{text}; the plain requests were not asked as often."
    return f"{text}; the plain requests, asked as often, do in {share_told(worst.plain)}."


def tries_notes(card: Scorecard) -> list[str]:
    """What the table does not show: plain requests that were not asked as often, or all alike."""
    return [*_without_plain(card), *_greedy(card)]


def _without_plain(card: Scorecard) -> Iterator[str]:
    """A sentence for each benchmark whose plain requests were not asked as often."""
    usual = registry.load("attack", REPEAT)().shots
    lacking: dict[str, dict[str, int]] = {}
    for each in card.best_of:
        if (plain := plain_task(each.task)) and each.plain is None:
            lacking.setdefault(plain, {})[each.task] = each.tries
    for plain, tries in lacking.items():
        tasks, most = listed(list(tries)), max(tries.values())
        often = f"{plain}:shots={most}"
        fewer = max(_plain_tries(card, plain), default=most)
        if fewer < most:
            yield (
                f"{tasks} had up to {most} tries and {plain} only {fewer}, so part of the "
                f"difference may be due to their number. To repeat the plain requests {most} "
                f"times, run: {_command(card, often)}"
            )
        else:
            yield (
                f"Success of {tasks} may be due to the number of tries alone; to see how often the "
                f"plain request succeeds in {most}, run: "
                f"{_command(card, plain if most <= usual else often)}"
            )


def _plain_tries(card: Scorecard, plain: str) -> list[int]:
    """How often the plain requests of a benchmark were asked, in each task that repeats them."""
    benchmark = task_parts(plain)[0]
    return [
        each.tries
        for each in card.best_of
        if plain_task(each.task) is None and task_parts(each.task)[0] == benchmark
    ]


def _command(card: Scorecard, task: str) -> str:
    benchmark, _ = task_parts(task)
    arms = ",".join(arm for arm in card.defenses if arm != UNDEFENDED) or UNDEFENDED
    words = ["safesight", "eval", "--model", card.model, "--defense", arms]
    words += ["--tasks", task]
    if benchmark not in registry.names("benchmark") or registry.is_local("benchmark", benchmark):
        words += ["--data", "FILE"]
    about = card.provenance
    words += ["--limit", str(about.limit)] if about.limit is not None else []
    words += ["--seed", str(about.seed)] if about.seed else []
    words += [part for fact in about.only.items() for part in ("--only", told(dict([fact])))]
    words += ["--temperature", f"{card.temperature:g}"] if card.temperature else []
    words += ["--max-tokens", str(card.max_tokens)] if card.max_tokens else []
    words += ["--log-dir", card.provenance.log_dir] if card.provenance.log_dir else []
    return shlex.join(words)


def _greedy(card: Scorecard) -> Iterator[str]:
    repeated = [t for t in _tasks(card) if REPEAT in map(attack_name, task_parts(t)[1])]
    if repeated and not card.temperature:
        yield (
            "Greedy answers to equal requests are equal, so the rate of "
            f"{listed(repeated)} is that of a single try; --temperature 1, with a --log-dir of its "
            "own, makes the tries differ."
        )


def budget_note(card: Scorecard) -> str | None:
    """What attacks spend on each request, where that is more than one query; None if none does.

    Example:
        >>> row = Row(defense="none", task="vqa+pgd", metric="attack_success_rate", value=0.5,
        ...           low=0.2, high=0.8, n=9, invalid=0, judge="exact",
        ...           budget={"queries": 1, "steps": 50, "seconds": 1.94, "epsilon": 8})
        >>> budget_note(Scorecard(model="m", seconds=0, rows=[row]))
        'Spent on each request: vqa+pgd 1 query, 50 steps, 1.9 s, epsilon 8/255.'
    """
    spent: dict[str, list[Mapping[str, float]]] = {}
    for row in card.rows:
        if row.metric == _ASR and row.budget and row.budget != {"queries": 1}:
            spent.setdefault(row.task, []).append(row.budget)
    if not spent:
        return None
    each = (f"{task} {', '.join(_amounts(budgets))}" for task, budgets in spent.items())
    return f"Spent on each request: {'; '.join(each)}."


def _amounts(budgets: Sequence[Mapping[str, float]]) -> Iterator[str]:
    """What all arms spend, from the least to the most where they differ."""
    for name in dict.fromkeys(name for budget in budgets for name in budget):
        amounts = [budget[name] for budget in budgets if name in budget]
        least, most = _amount(name, min(amounts)), _amount(name, max(amounts))
        yield most if least == most else f"{least.split()[0]} to {most}"


_COUNTED = {"queries": "query", "steps": "step"}
_PLURALS = {"query": "queries", "step": "steps", "try": "tries"}


def _many(count: int, noun: str) -> str:
    return f"{count} {noun if count == 1 else _PLURALS[noun]}"


def _amount(name: str, amount: float) -> str:
    if name in _COUNTED and amount == int(amount):
        return _many(int(amount), _COUNTED[name])
    if name in _COUNTED:
        return f"{amount:.1f} {name}"
    if name == "seconds":
        return f"{amount:.1f} s"
    return f"epsilon {amount:g}/255" if name == "epsilon" else f"{name} {amount:g}"
