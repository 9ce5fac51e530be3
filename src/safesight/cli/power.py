"""`safesight power`: how many samples a comparison needs, before anything runs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from safesight.cli.arguments import MOST
from safesight.cli.show import examples, print_json, print_sentence
from safesight.console import stdout
from safesight.errors import InputError
from safesight.grid import Column, Grid, print_grid

if TYPE_CHECKING:
    from safesight.stats.power import Plan

__all__ = ["EXAMPLES", "power"]

EXAMPLES = examples(
    "safesight power --delta 0.05 --baseline 0.4",
    "safesight power --n 300 --baseline 0.4",
    "safesight power --delta 0.1 --baseline 0.4 --group-size 5 --icc 0.3 --comparisons 20",
)

INDEPENDENT, WORST = "independent", "worst"

_Share = Annotated[
    str,
    typer.Option(
        metavar="SHARE",
        help="Share of samples on which the arms differ: a number, independent (the arms succeed "
        "independently of each other), or worst (as often as the rates allow).",
    ),
]
_Effect = Annotated[
    float | None,
    typer.Option(
        min=1, max=10_000, help="Samples worth one independent sample, in place of --icc."
    ),
]


@dataclass(frozen=True)
class _Question:
    """What was asked on the command line."""

    baseline: float
    delta: float | None
    n: int | None
    discordant: str
    plan: Plan

    @property
    def given(self) -> float | None:
        """The share of discordant samples, if it was given as a number."""
        if self.discordant in (INDEPENDENT, WORST):
            return None
        return float(self.discordant)

    def share(self, delta: float) -> float:
        """The share of samples on which the arms differ."""
        from safesight.stats.power import discordant_share

        if self.given is not None:
            return self.given
        return discordant_share(self.baseline, delta, worst=self.discordant == WORST)


def power(
    baseline: Annotated[
        float, typer.Option(min=0, max=1, help="The rate without the defense, from 0 to 1.")
    ],
    delta: Annotated[
        float | None,
        typer.Option(
            help="The change to find: 0.05 is five points, up or down.", show_default=False
        ),
    ] = None,
    n: Annotated[
        int | None,
        typer.Option("--n", min=1, help="Samples at hand; finds the smallest change they show."),
    ] = None,
    power: Annotated[
        float, typer.Option(min=0.5, max=0.9999, help="How often the change is to be found.")
    ] = 0.8,
    alpha: Annotated[
        float, typer.Option(min=1e-9, max=0.2, help="The p-value to reach, two-sided.")
    ] = 0.05,
    discordant: _Share = INDEPENDENT,
    group_size: Annotated[
        int, typer.Option(min=1, help="Samples per group: ways in which one goal is asked.")
    ] = 1,
    icc: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="How alike samples of a group are. Default: 1, they change together."
        ),
    ] = None,
    design_effect: _Effect = None,
    comparisons: Annotated[
        int, typer.Option(min=1, help="Changes that are tested together, for Holm's correction.")
    ] = 1,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say how many samples a comparison needs, or how small a change a number of them can show.

    The comparison is paired: both arms answer the same samples, and McNemar's exact test compares
    them, as in a scorecard. With both --delta and --n: how often the change will be found.
    """
    from safesight.stats.power import Plan, kish

    if icc is not None and design_effect is not None:
        raise InputError("--icc and --design-effect say the same. Give one of them.")
    if icc is not None and group_size == 1:
        raise InputError("--icc is about samples in groups. Give their size with --group-size.")
    effect = design_effect or kish(group_size, 1.0 if icc is None else icc)
    plan = Plan(power, alpha, comparisons, effect, group_size)
    asked = _Question(baseline, delta, n, discordant, plan)
    _check(asked)
    found = _answer(asked)
    if json:
        print_json(found)
        return
    _print(asked, found, assumed=group_size > 1 and icc is None and design_effect is None)


def _check(asked: _Question) -> None:
    """Refuse what no two arms can do.

    Raises:
        InputError: the numbers contradict one another; the message says which.
    """
    if asked.delta is None and asked.n is None:
        raise InputError("Give --delta to learn how many samples it needs, or --n, or both.")
    try:
        given = asked.given
    except ValueError:
        raise InputError(
            f"--discordant is {asked.discordant!r}, not a number, {INDEPENDENT} or {WORST}."
        ) from None
    if given is not None and not 0 < given <= 1:
        raise InputError("--discordant is a share of the samples, above 0 and at most 1.")
    if asked.delta is None:
        return
    largest = max(asked.baseline, 1 - asked.baseline)
    if not 0 < asked.delta <= largest:
        raise InputError(
            f"From {asked.baseline:g}, a rate can change by at most {largest:g}. Give --delta a "
            "number above 0 and not above that."
        )
    if given is not None:
        _check_share(asked, asked.delta)


def _check_share(asked: _Question, delta: float) -> None:
    """Refuse a share of samples on which arms with these rates cannot differ."""
    from safesight.stats.power import discordant_share

    given, most = asked.given, discordant_share(asked.baseline, delta, worst=True)
    if given is not None and not delta - 1e-9 <= given <= most + 1e-9:
        raise InputError(
            f"With a change of {delta:.4g} from {asked.baseline:g}, the arms differ on {delta:.4g} "
            f"to {most:.4g} of the samples, not on {given:g}. Change --discordant."
        )


def _answer(asked: _Question) -> dict[str, Any]:
    """The question and its answer, as JSON."""
    from safesight.stats import power as calculations

    plan, delta = asked.plan, asked.delta
    found: dict[str, Any] = {
        "baseline": asked.baseline,
        **asdict(plan),
        "discordant_assumed": "given" if asked.given is not None else asked.discordant,
    }
    if delta is None:
        assert asked.n is not None
        delta = calculations.smallest_delta(
            asked.n,
            asked.baseline,
            plan,
            discordant=asked.given,
            worst=asked.discordant == WORST,
        )
        if delta is not None and asked.given is not None:
            _check_share(asked, delta)
        found |= {"n": asked.n, "smallest_delta": delta}
        share = None if delta is None else asked.share(delta)
        return found | {"discordant": share}
    share = asked.share(delta)
    found |= {"delta": delta, "discordant": share}
    if asked.n is None:
        needed = calculations.samples_needed(delta, share, plan, most=MOST)
        if needed is None:
            raise InputError(
                f"A change of {_points(delta)} from {_percent(asked.baseline)} needs more than "
                f"{MOST} samples to be found. Ask for a larger --delta."
            )
        return found | {"n_needed": needed, "groups_needed": _groups(needed, plan)}
    independent = plan.independent(asked.n)
    chance = calculations.power_of(independent, delta, share, plan.level) if independent else 0.0
    return found | {"n": asked.n, "power_at_n": chance}


def _groups(n: int, plan: Plan) -> int:
    return -(-n // int(plan.group_size))


def _print(asked: _Question, found: dict[str, Any], *, assumed: bool) -> None:
    console = stdout()
    console.print()
    print_sentence(_sentence(asked, found), console, "bold")
    console.print()
    if "n_needed" in found and asked.given is None:
        print_grid(console, _by_share(asked, found["delta"]))
    for note in _notes(asked, found, assumed):
        print_sentence(note, console, "dim")


def _sentence(asked: _Question, found: dict[str, Any]) -> str:
    plan, base = asked.plan, f"from {_percent(asked.baseline)}"
    if "n_needed" in found:
        groups = f" in {found['groups_needed']} groups" if plan.group_size > 1 else ""
        return (
            f"A change of {_points(found['delta'])} {base} needs {found['n_needed']} "
            f"samples{groups} to be found with a probability of {_percent(plan.power)}."
        )
    if "power_at_n" in found:
        return (
            f"With {asked.n} samples, a change of {_points(found['delta'])} {base} is found with a "
            f"probability of {_percent(found['power_at_n'])}."
        )
    if found["smallest_delta"] is None:
        return (
            f"With {asked.n} samples, no change {base} is found with a probability of "
            f"{_percent(plan.power)}."
        )
    return (
        f"With {asked.n} samples, the smallest change {base} that is found with a probability of "
        f"{_percent(plan.power)} is {_points(found['smallest_delta'])}."
    )


def _by_share(asked: _Question, delta: float) -> Grid:
    """The same question under each assumption about how often the arms differ."""
    from safesight.stats.power import discordant_share, samples_needed

    shares = {
        "all in one direction": delta,
        "arms independent": discordant_share(asked.baseline, delta),
        "as often as possible": discordant_share(asked.baseline, delta, worst=True),
    }
    columns = [
        Column(("share",), [(_percent(share),) for share in shares.values()]),
        Column(
            ("samples",),
            [
                (str(samples_needed(delta, share, asked.plan, most=MOST) or f">{MOST}"),)
                for share in shares.values()
            ],
        ),
    ]
    return Grid("If the arms differ on", list(shares), columns)


def _notes(asked: _Question, found: dict[str, Any], assumed: bool) -> list[str]:
    plan = asked.plan
    holm = ""
    if plan.comparisons > 1:
        holm = f" after Holm's correction for {plan.comparisons} changes ({plan.level:.2g} alone)"
    test = "McNemar's exact test"
    if plan.design_effect > 1:
        test = "exact sign-flip test over groups, by way of the design effect"
    notes = [f"Paired, {test}, two-sided, p at most {plan.alpha:g}{holm}."]
    if (share := found["discordant"]) is not None:
        because = {
            INDEPENDENT: ", as if they succeeded independently. Arms of one model mostly agree "
            "more often, and then fewer samples are enough",
            WORST: ", as often as the rates allow",
        }
        notes.append(
            f"Assumed: the arms differ on {_percent(share)} of the samples"
            f"{because.get(asked.discordant, '')}."
        )
    if plan.design_effect > 1:
        worst = ", as if all samples of a group changed together; --icc says less" * assumed
        notes.append(f"{plan.design_effect:g} samples count as one independent sample{worst}.")
    return notes


def _percent(share: float) -> str:
    return f"{100 * share:.1f}".removesuffix(".0") + "%"


def _points(delta: float) -> str:
    number = f"{100 * delta:.2f}".rstrip("0").rstrip(".") if delta >= 1e-4 else f"{100 * delta:g}"
    return f"{number} point" if number == "1" else f"{number} points"
