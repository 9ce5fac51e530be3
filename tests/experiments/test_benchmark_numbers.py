"""The scripts in `benchmarks/`: what they make of a few verdicts that can be counted by hand."""

from __future__ import annotations

import argparse
import gzip
import importlib
import json
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from safesight.analysis.outcomes import Outcome
from safesight.benchmarks import load_benchmark

SCRIPTS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a script by name, as it imports its neighbours."""
    monkeypatch.setattr(sys, "path", [str(SCRIPTS), *sys.path])
    return importlib.import_module


def cell(*verdicts: str) -> list[list[Any]]:
    return [[verdict, verdict == "harmless"] for verdict in verdicts]


def about(script: Any, n: int = 40) -> Any:
    """The test sets behind rows of n entries per task."""
    return script("judged").About(n)


def test_broken_text_is_in_no_rate_and_wrong_as_an_answer(script: Any) -> None:
    judged = script("judged")
    cells = cell("harmful", "refused", "invalid", "harmless")
    found = judged.rate(cells, "attack_success_rate")
    assert (found["value"], found["n"], found["invalid"]) == (1 / 3, 3, 1)
    right = judged.rate(cells, "utility")
    assert (right["value"], right["n"], right["invalid"]) == (1 / 4, 4, 1)


def test_broken_text_makes_no_gate_look_safer(script: Any) -> None:
    """Of three answers one is broken: the model as it is, then a gate that refuses the first."""
    gates = script("gates")
    verdicts = ["harmful", "invalid", "harmless"]
    samples = [*load_benchmark("image_harm")(3), *load_benchmark("sensitive_benign")(3)]
    asked = gates.Asked(gates.Prompts(samples, {}), verdicts * 2, [False, False, True] * 2)

    def cells(*refused: bool) -> Any:
        return gates.cells_of([gates.letters_of(asked, [*refused] * 2)], samples)

    plain, gated = cells(False, False, False), cells(True, False, False)
    found = [
        [(of[key]["value"], of[key]["n"]) for of in (plain, gated)]
        for key in (
            "image_harm/attack_success_rate",
            "sensitive_benign/over_refusal_rate",
            "sensitive_benign/utility",
        )
    ]
    assert found == [[(0.5, 2), (0.0, 2)], [(0.0, 2), (0.5, 2)], [(0.3333, 3), (0.3333, 3)]]
    refused = cells(False, True, False)
    assert refused["image_harm/attack_success_rate"]["n"] == 3, "the gate answers, not the model"


def test_pairs_count_where_both_could_be_judged(script: Any) -> None:
    judged = script("judged")
    before, after = [True, True, None, True], [False, None, True, True]
    assert judged.changed(before, after)["delta"] == -0.5
    assert judged.changed([None], [True]) is None


def test_a_mean_has_the_interval_of_its_samples(script: Any) -> None:
    mean = script("judged").mean
    found = mean(np.array([0.0, 1.0] * 200))
    assert found["value"] == 0.5
    assert found["low"] == pytest.approx(0.45, abs=0.01)
    assert found["high"] == pytest.approx(0.55, abs=0.01)
    assert mean(np.zeros(300))["high"] == pytest.approx(0.0126, abs=1e-4)  # never seen, not never
    # Ten vectors of which each gives the same answers are no more samples than one.
    assert mean(np.array([0.3] * 50), "delta")["delta"] == pytest.approx(0.3)


def tool_row(arm: str, harmful: int, n: int = 40) -> dict[str, Any]:
    attacks = cell(*["harmful"] * harmful, *["refused"] * (n - harmful))
    cells = {"image_harm": attacks, "typographic_harm": attacks}
    benign = cell(*["harmless"] * n)
    return {"seed": 0, "arm": arm, "cells": {**cells, "over_refusal": benign, "vqa": benign}}


def test_half_of_the_gap_is_half(script: Any) -> None:
    arms = {"direct": 40, "tool": 20, "add": 30, "ablate": 35, "add random 0": 40}
    arms |= {"add random 1": 36}
    rows = [tool_row(arm, harmful) for arm, harmful in arms.items()]
    lines = {line["arm"]: line for line in script("tool_vector").summary(rows, about(script))}
    assert lines["add"]["share_of_gap"]["value"] == pytest.approx(0.5)
    assert lines["ablate"]["share_of_gap"]["value"] == pytest.approx(0.75)
    assert "broken_rate" not in lines["direct"], "earlier files do not say"
    together = lines["add random, 2 vectors"]
    assert together["attack_success_rate"]["value"] == pytest.approx(0.95)
    assert together["attack_success_rate"]["n"] == 80
    assert together["share_of_gap"]["value"] == pytest.approx(0.1)


def test_answers_that_name_the_thing_have_a_gap_of_their_own(script: Any) -> None:
    rows = []
    for arm, named in {"direct": 40, "tool": 0, "add": 30}.items():
        row = tool_row(arm, harmful=40)
        attacks = [["harmful", index < named] for index in range(40)]
        rows.append(
            {
                **row,
                "cells": {
                    **row["cells"],
                    **dict.fromkeys(("image_harm", "typographic_harm"), attacks),
                },
            }
        )
    lines = {line["arm"]: line for line in script("tool_vector").summary(rows, about(script))}
    assert lines["add"]["named_rate"]["value"] == pytest.approx(0.75)
    assert lines["add"]["share_of_named_gap"]["value"] == pytest.approx(0.25)
    assert lines["add"]["share_of_gap"] is None, "the tool lowers attack success by nothing"


def mirage_row(arm: str, plain: str, attacked: str, shots: list[str]) -> dict[str, Any]:
    harm = {"harm": cell(plain) * 20, "harm+one_word": [[attacked, False, shots]] * 20}
    benign = {"benign": cell("harmless") * 20, "benign+one_word": cell("refused") * 20}
    return {"seed": 0, "arm": arm, "cells": {**harm, **benign, "vqa": cell("harmless") * 20}}


def test_what_a_word_undoes_and_unlearning_keeps(script: Any) -> None:
    rows = [
        mirage_row("none", "harmful", "harmful", ["harmful"] * 3),
        mirage_row("sft, rho 0.95", "refused", "harmful", ["refused", "harmful", "harmless"]),
        mirage_row("npo", "harmless", "harmless", ["harmless"] * 3),
    ]
    lines = {line["arm"]: line for line in script("mirage").summary(rows, about(script, 20))}
    sft, npo = lines["sft, rho 0.95"], lines["npo"]
    assert sft["harm rise"]["delta"] == 1.0
    assert sft["benign rise"]["delta"] == 1.0
    verdicts = {"harmful": 20, "harmless": 20, "refused": 20, "invalid": 0}
    assert sft["harm+one_word"]["split"] == verdicts
    assert sft["harm+one_word: refused"]["value"] == pytest.approx(1 / 3)
    assert sft["harm: refused"]["value"] == 1.0
    assert "harm+one_word against sft" not in sft
    assert npo["harm+one_word against sft"]["delta"] == -1.0
    assert npo["harm+one_word less than sft"]["value"] == 1.0
    assert npo["benign+one_word less than sft"]["value"] == 0.0
    assert npo["vqa change"]["delta"] == 0.0
    assert "vqa change" not in lines["none"], "an arm does not differ from itself"
    assert npo["benign right"]["value"] == 1.0
    assert (npo["benign+one_word right"]["value"], npo["benign+one_word right"]["n"]) == (0.0, 20)
    assert "harm right" not in npo
    assert "harm+one_word: broken" not in npo, "earlier files do not say"


def test_broken_shots_are_counted_whatever_their_verdict(script: Any) -> None:
    """Planted: one shot of three is broken in half of the requests, one plain answer in four."""
    row = mirage_row("rmu", "harmless", "harmless", [])
    shots = ["harmless", "harmful", "refused"]
    row["cells"]["harm+one_word"] = [
        ["harmful", False, shots, [i % 2 == 0, False, False]] for i in range(20)
    ]
    row["cells"]["harm"] = [["harmless", False, [], [i % 4 == 0]] for i in range(20)]
    (line,) = script("mirage").summary([row], about(script, 20))
    assert line["harm+one_word: broken"]["value"] == pytest.approx(1 / 6)
    assert line["harm: broken"]["value"] == pytest.approx(1 / 4)
    assert line["harm: harmless"]["value"] == 1.0
    assert line["harm+one_word: harmful"]["value"] == pytest.approx(1 / 3)


def test_an_entry_says_whether_it_is_broken(script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the scripts store of an outcome, they count again."""
    one = Outcome("harmless", True, "bottom", ("harmless",), (True,))
    three = Outcome("harmful", False, "x", ("refused", "harmful", "harmless"), (False, True, True))
    mirage, tool_vector = script("mirage"), script("tool_vector")
    for module in (mirage, tool_vector):
        monkeypatch.setattr(module, "outcomes", lambda *_, **__: [one, three])
    entries = mirage.asked(None, [])
    assert [mirage.shots(entry) for entry in entries] == [list(one.shots), list(three.shots)]
    assert list(mirage.broken_shares(entries)) == [1.0, pytest.approx(2 / 3)]
    monkeypatch.setattr(tool_vector, "outcomes", lambda *_, **__: [one, one, one])
    cells = dict.fromkeys(tool_vector.TASKS, tool_vector.verdicts(None, []))
    (line,) = tool_vector.summary([{"seed": 0, "arm": "direct", "cells": cells}], about(script, 3))
    assert (line["broken_rate"]["value"], line["broken_rate"]["n"]) == (1.0, 12)


def test_the_error_of_a_test_for_broken_text_by_hand(script: Any) -> None:
    """Ten broken answers: looks finds two, likelihood nine; of ten others it stops one."""
    broken = [(True, i < 2, 5.0 if i < 9 else 0.1) for i in range(10)]
    whole = [(False, False, 0.2 if i < 9 else 3.0) for i in range(10)]
    rows = [
        {"split": split, "arm": arm, "cells": {"image_harm": entries}}
        for split in ("calibration", "test")
        for arm, entries in (("none", whole), ("rmu", broken))
    ]
    found = script("broken").concluded(rows)
    assert found["threshold"] == 5.0
    every, none, rmu = found["summary"]
    assert (every["broken"]["value"], every["looks finds"]["value"]) == (0.5, 0.2)
    assert (every["likelihood finds"]["value"], every["likelihood passes"]["value"]) == (0.9, 1.0)
    assert every["likelihood area"]["value"] == pytest.approx(0.9)
    assert (none["arm"], none["looks finds"]["value"]) == ("undefended", None)
    assert rmu["looks passes"]["value"] is None
    assert rmu["broken, image_harm"]["value"] == 1.0


def vsfa_row(arm: str, harmful: int, words: int) -> dict[str, Any]:
    verdicts = ["harmful"] * harmful + ["refused"] * (10 - harmful)
    attacks = [[verdict, False, words, 0.5] for verdict in verdicts]
    benign = [["harmless", True, 4, 0.0]] * 10
    tasks = ("text_harm", "image_harm", "typographic_harm")
    others = ("over_refusal", "sensitive_benign", "vqa")
    cells = dict.fromkeys(tasks, attacks) | dict.fromkeys(others, benign)
    return {"seed": 0, "arm": arm, "cells": cells}


def test_a_vsfa_arm_stands_beside_the_model_and_the_threats(script: Any) -> None:
    rows = [vsfa_row("none", 8, 12), vsfa_row("threat", 4, 10), vsfa_row("neutral", 8, 12)]
    lines = {line["arm"]: line for line in script("vsfa").summary(rows, about(script, 10))}
    assert lines["threat"]["attacks/attack_success_rate_less"]["value"] == pytest.approx(0.5)
    assert lines["threat"]["attacks/words_change"]["delta"] == -2.0
    assert lines["threat"]["benign/words_change"]["delta"] == 0.0
    minus = lines["neutral"]["attacks/attack_success_rate_threat_minus_this"]
    assert minus["delta"] == pytest.approx(-0.4)


def test_every_model_of_the_ingredient_stands_beside_itself(script: Any) -> None:
    rows = [
        {"taught": taught, **vsfa_row(arm, harmful, 10)}
        for taught, shares in (("no facts", (8, 6)), ("as committed", (8, 2)))
        for arm, harmful in zip(("none", "threat"), shares, strict=True)
    ]
    results: dict[str, Any] = {"rows": rows, "n": 10, "split": "test"}
    script("vsfa_ingredient").concluded(results)
    found = {(e["taught"], e["task"], e["metric"]): e for e in results["effects"]}
    assert list(dict.fromkeys(key[0] for key in found)) == ["as committed", "no facts"]
    less = [found[taught, "threat", "less"]["value"] for taught in ("as committed", "no facts")]
    assert less == pytest.approx([0.75, 0.25])
    assert found["no facts", "none", "threat_minus_this"]["delta"] == pytest.approx(-0.2)


def test_a_sample_steered_in_random_directions_counts_once(script: Any) -> None:
    def row(direction: str, *verdicts: str) -> dict[str, Any]:
        cells = {"image_harm": cell(*verdicts), "over_refusal": cell("harmless", "invalid")}
        return {"direction": direction, "model": "base", "amount": 0.2, "cells": cells}

    steering = [
        row("persona", "harmful", "refused"),
        row("random 0", "harmful", "refused"),
        row("random 1", "harmful", "harmful"),
    ]
    seeds = [{"seed": seed, "steering": steering} for seed in range(2)]
    found = {
        (each["direction"], each["task"]): each
        for each in script("vsfa").steered(seeds, about(script, 2))
    }
    assert found["persona", "image_harm"]["value"] == 0.5
    assert found["persona", "image_harm"]["n"] == 4
    assert found["random", "image_harm"]["value"] == 0.75
    assert found["random", "image_harm"]["n"] == 4
    assert (found["random", "over_refusal"]["value"], found["random", "over_refusal"]["n"]) == (
        0,
        2,
    )


def test_entries_are_counted_by_thing_and_seed(script: Any) -> None:
    """Of a third of the things every attack works, of the others none, in each of three fits."""
    judged = script("judged")
    by = judged.About(60).clusters(range(3), ["image_harm", "typographic_harm"])
    names = sorted(set(by.groups))
    hits = [names.index(group) % 3 == 0 for group in by.groups]
    entries = cell(*("harmful" if hit else "refused" for hit in hits))
    found = judged.rate(entries, "attack_success_rate", by)
    alone = judged.rate(entries, "attack_success_rate")
    assert (found["n"], found["groups"]) == (360, len(names))
    assert found["high"] - found["low"] > 2 * (alone["high"] - alone["low"])
    assert found["design_effect"] > 8
    none = [False] * len(hits)
    assert judged.changed(none, hits, clusters=by)["groups"] == len(names)
    less = judged.changed(hits, none, script("vsfa").relative_reduction, by)
    assert less["low"] > 0.5
    words = judged.mean(np.array(hits, dtype=float), "delta", by)
    assert words["groups"] == len(names)


def test_a_gate_is_scored_over_things(script: Any) -> None:
    gates, samples = script("gates"), load_benchmark("image_harm")(60)
    verdicts = ["harmful", "refused"] * 30
    asked = gates.Asked(gates.Prompts(samples, {}), verdicts, [False] * 60)
    letters = gates.letters_of(asked, [False] * 60)
    (rate,) = gates.cells_of([letters, letters], samples).values()
    assert (rate["value"], rate["n"]) == (0.5, 120)
    assert rate["groups"] == len({sample.facts["concept"] for sample in samples})


def test_only_samples_that_were_asked_are_counted(script: Any) -> None:
    vector = script("tool_vector")
    whole = script("judged").About(30).clusters([0], ["over_refusal"])
    shown = script("judged").About(30, keep=vector.has_picture).clusters([0], ["over_refusal"])
    assert len(shown.groups) == len(vector.shown("over_refusal", 30, 0)) < len(whole.groups)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mirage", "mirage"),
        ("mirage", "mirage_known"),
        ("vsfa", "vsfa"),
        ("vsfa", "vsfa_alone"),
        ("vsfa", "vsfa_replay250"),
        ("vsfa_ingredient", "vsfa_ingredient"),
        ("tool_vector", "tool_vector"),
    ],
)
def test_committed_rates_are_over_things(name: str, file: str, script: Any) -> None:
    """The summaries of the committed files say what today's statistics find in their rows."""
    path = SCRIPTS.parent / "docs" / "results" / f"{file}.json.gz"
    committed = json.loads(gzip.decompress(path.read_bytes()))
    arms = {"none", "direct"}
    rows = [row for row in committed["rows"] if row["arm"] in arms]
    results = {**committed, "rows": rows, "persona": []}
    script(name).concluded(results)
    found = [line for line in committed["summary"] if line["arm"] in arms]
    for line, again in zip(found, results["summary"], strict=True):
        rates = [key for key, each in again.items() if isinstance(each, dict) and "value" in each]
        assert [line[key] for key in rates] == [again[key] for key in rates]
        assert all(line[key]["groups"] for key in rates)


def test_a_summary_is_counted_again_without_a_model(
    script: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "vsfa.json"
    rows = [vsfa_row("none", 8, 12), vsfa_row("threat", 4, 10)]
    old = {"n": 10, "split": "test", "code": "theirs", "rows": rows, "persona": [], "summary": []}
    script("results_file").saved(path, old)
    monkeypatch.setattr(sys, "argv", ["vsfa.py", "--summarise", "--out", str(path)])
    script("vsfa").main()
    found = json.loads(path.read_text())
    assert (found["code"], found["rows"]) == ("theirs", rows)
    assert found["summary_code"] == script("results_file").code_hash()
    assert found["summary"][1]["attacks/attack_success_rate_change"]["groups"] > 5
    assert "Counted again" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["vsfa.py", "--summarise", "--out", str(tmp_path / "x.json")])
    with pytest.raises(SystemExit, match="missing"):
        script("vsfa").main()


def test_refusals_by_chance_are_as_many_and_say_nothing_of_the_thing(script: Any) -> None:
    """Of harmful and of benign things alike; half of them by chance lies half way."""
    ingredient, dice = script("vsfa_ingredient"), random.Random(0)
    lessons = ingredient.text_lessons
    shares = {}
    for true in (1.0, 0.5, 0.0):
        refused: dict[bool, list[bool]] = {True: [], False: []}
        for _ in range(4000):
            thing = lessons.asked_for(dice.random(), dice)
            refused[thing.harmful].append(ingredient.policy(true)(thing, False, dice))
        shares[true] = [np.mean(refused[kind]) for kind in (True, False)]
    assert shares[1.0] == [1.0, 0.0]
    assert shares[0.5] == pytest.approx([0.725, 0.225], abs=0.03)
    assert shares[0.0] == pytest.approx([0.45, 0.45], abs=0.03)


def test_facts_by_chance_are_told_of_any_thing(script: Any) -> None:
    """How much oftener harmful things are called dangerous than others: always, or no oftener."""
    ingredient, dice = script("vsfa_ingredient"), random.Random(0)
    for true, expected in ((1.0, 1.0), (0.0, 0.0)):
        told = [ingredient.facts(true)(dice).turns for _ in range(3000)]
        dangerous: dict[bool, list[bool]] = {True: [], False: []}
        for turns in told:
            for thing in ingredient.CONCEPTS:
                if turns[-2][1].startswith(f"is {thing.phrase} dangerous"):
                    dangerous[thing.harmful].append("is dangerous" in turns[-1][1])
        assert min(map(len, dangerous.values())) > 60
        apart = np.mean(dangerous[True]) - np.mean(dangerous[False])
        assert apart == pytest.approx(expected, abs=0.12)


def at(path: Path, *, fresh: bool = False) -> argparse.Namespace:
    return argparse.Namespace(out=path, fresh=fresh)


def test_results_resume_under_the_same_head_only(
    script: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    results, path = script("results_file"), tmp_path / "r.json"
    head = {"n": 3, "at": (1, 2)}
    begun = results.opened(at(path), head, summary=[])
    code = results.code_hash()
    assert begun == {**head, "code": code, "seconds": 0, "rows": [], "summary": []}
    begun["rows"] += [{"cells": [["harmful", True]]}, {"cells": []}]
    results.saved(path, begun)
    assert len(path.read_text().splitlines()) == 11  # a line for each row
    assert results.opened(at(path), head)["rows"] == begun["rows"]
    results.finished(at(path), begun)
    assert "Nothing to do" in capsys.readouterr().out
    before = path.read_bytes()
    with pytest.raises(SystemExit, match=r"another n\. Add --fresh"):
        results.opened(at(path), {**head, "n": 4})
    assert results.opened(at(path, fresh=True), {**head, "n": 4})["rows"] == []
    monkeypatch.setattr(results, "code_hash", lambda: "other")
    with pytest.raises(SystemExit, match="another code"):
        results.opened(at(path), head)
    assert path.read_bytes() == before
    path.write_text(path.read_text()[:40])
    with pytest.raises(SystemExit, match="damaged"):
        results.opened(at(path), head)


def test_compressed_results_resume_too(script: Any, tmp_path: Path) -> None:
    results, path = script("results_file"), tmp_path / "new" / "r.json.gz"
    rows = [{"cells": [["harmful", True]] * 1000}]
    results.saved(path, {"n": 3, "code": results.code_hash(), "rows": rows})
    assert path.stat().st_size < 1000
    assert results.opened(at(path), {"n": 3})["rows"] == rows
    assert [found.name for found in path.parent.iterdir()] == ["r.json.gz"]
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(SystemExit, match="damaged"):
        results.opened(at(path), {"n": 3})


def test_a_benchmark_writes_beside_the_committed_results(script: Any) -> None:
    results, parser = script("results_file"), argparse.ArgumentParser()
    results.add_output(parser, "sasa")
    found = parser.parse_args([]).out
    assert found.relative_to(SCRIPTS.parent).parts == ("runs", "benchmarks", "sasa.json")
    assert parser.parse_args(["--out", "x.json.gz"]).out == Path("x.json.gz")
    assert parser.parse_args(["--fresh"]).fresh


@pytest.mark.parametrize("path", sorted(SCRIPTS.glob("*.py")), ids=lambda path: path.stem)
def test_no_benchmark_names_the_committed_results(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert path.stem == "results_file" or "docs/results" not in text


def test_an_arm_that_is_not_there_is_said_and_not_skipped(script: Any) -> None:
    chosen = script("arms").chosen
    names = ["none", "sft, rho 0", "sft, rho 1", "npo", "none"]
    assert chosen("", names) == set(names)
    assert chosen("none; sft", names, separator=";") == {"none", "sft, rho 0", "sft, rho 1"}
    with pytest.raises(SystemExit, match="No arm is named 'nop'"):
        chosen("none,nop", names)


def test_a_rate_over_things_knows_that_drawings_of_one_thing_agree(script: Any) -> None:
    styles = script("styles")
    apart = {str(i): [i % 2, 1] for i in range(40)}
    alike = {str(i): [10 * (i % 2), 10] for i in range(4)}
    wide, narrow = styles.rate([alike]), styles.rate([apart])
    assert wide["value"] == narrow["value"] == 0.5
    assert (wide["n"], wide["groups"]) == (40, 4)
    assert wide["high"] - wide["low"] > 2 * (narrow["high"] - narrow["low"])
    assert styles.rate([alike, alike])["low"] == wide["low"], "styles share their things"
    never = styles.rate([{str(i): [0, 10] for i in range(4)}])
    assert never["low"] == 0 < 0.3 < never["high"] < 0.6


def test_styles_are_pooled_by_whether_the_weights_knew_them(script: Any) -> None:
    styles = script("styles")
    rows = [
        {"style": "noto", "seen": True, "counts": {"named": {"cat": [3, 4], "dog": [4, 4]}}},
        {"style": "openmoji", "seen": False, "counts": {"named": {"cat": [0, 4]}}},
        {"style": "emojione", "seen": False, "counts": {"named": {"cat": [1, 4]}}},
    ]
    results: dict[str, Any] = {"rows": rows}
    styles.summarize(results)
    found = {entry["arm"]: entry for entry in results["summary"]}
    assert list(found) == ["noto", "openmoji", "emojione", "trained on", "foreign"]
    assert found["trained on"]["named"]["value"] == 7 / 8
    assert (found["foreign"]["named"]["value"], found["foreign"]["named"]["n"]) == (1 / 8, 8)
    assert found["foreign"]["styles"] == 2
