"""lmms-eval itself runs a task of pictures on the bundled model, from its command line too."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lmms_eval", reason="lmms-eval has an environment of its own")

from datasets import Dataset, Features, Image, Sequence, Value
from lmms_eval.api.instance import Instance

from safesight.errors import InputError, SafesightError

# Before anything that reads lmms-eval's entry points: the order must not matter.
from safesight.plugins.lmms_eval import Safesight
from tests.plugins.plain import LENGTH, defended, plain, samples

TASK = """
task: {name}
dataset_path: parquet
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: generate_until
doc_to_visual: !function {name}_functions.pictures
doc_to_text: !function {name}_functions.question
doc_to_target: target
generation_kwargs:
  max_new_tokens: 24
  temperature: 0
  do_sample: false
  num_beams: 1
  until: ["\\n\\n"]
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


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task whose data lies beside it: one picture each, two in the last document."""
    made = tmp_path_factory.mktemp("tasks")
    pictures = [[sample.image()] for sample in samples()]
    questions = [sample.question for sample in samples()]
    pictures.append([*pictures[3], *pictures[4]])
    questions.append("what is in these pictures?")
    rows = Dataset.from_dict(
        {"question": questions, "target": ["-"] * 7, "pictures": pictures},
        features=Features(
            {"question": Value("string"), "target": Value("string"), "pictures": Sequence(Image())}
        ),
    )
    rows.to_parquet(made / "mine.parquet")
    (made / "mine.yaml").write_text(TASK.format(name="mine", data=made / "mine.parquet"))
    (made / "mine_functions.py").write_text(FUNCTIONS)
    return made


def conversations() -> list[list[dict[str, Any]]]:
    asked = [sample.messages() for sample in samples()]
    shown = [asked[index][0]["content"][0] for index in (3, 4)]
    question = {"type": "text", "text": "what is in these pictures?"}
    return [*asked, [{"role": "user", "content": [*shown, question]}]]


def evaluate(folder: Path, **given: Any) -> dict[str, Any]:
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.tasks import TaskManager

    found = simple_evaluate(
        tasks=["mine"],
        task_manager=TaskManager(include_path=str(folder)),
        log_samples=True,
        bootstrap_iters=0,
        **given,
    )
    assert found is not None
    return dict(found)


def answers(found: dict[str, Any]) -> list[str]:
    rows = sorted(found["samples"]["mine"], key=lambda row: row["doc_id"])
    return [row["filtered_resps"][0].strip() for row in rows]


@pytest.mark.parametrize(
    ("args", "expected"),
    [("pretrained=testbed", plain), ("pretrained=testbed,defense=sasa", defended)],
)
def test_an_evaluation_gets_the_answers_of_the_arm(
    args: str, expected: Callable[..., list[str]], folder: Path
) -> None:
    found = evaluate(folder, model="safesight", model_args=f"{args},device=cpu", batch_size=3)
    assert answers(found) == expected(*conversations())
    assert "exact_match,none" in found["results"]["mine"]


def test_the_command_line_gets_them_too(folder: Path, tmp_path: Path) -> None:
    words = "-m lmms_eval --model safesight --tasks mine --batch_size 4 --log_samples".split()
    words += ["--model_args", "pretrained=testbed,defense=sasa,device=cpu"]
    words += ["--include_path", str(folder), "--output_path", str(tmp_path)]
    run = subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stderr[-2000:]
    log = next(tmp_path.rglob("*samples_mine.jsonl"))
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    rows.sort(key=lambda row: row["doc_id"])
    assert [row["filtered_resps"].strip() for row in rows] == defended(*conversations())


@dataclass
class Asked:
    """A model and what it is given to answer."""

    model: Safesight
    documents: list[str]

    def __call__(self, **kwargs: Any) -> list[str]:
        self.model.task_dict = {"mine": {"test": self.documents}}
        requests = [
            Instance(
                request_type="generate_until",
                arguments=(text, self._messages, dict(kwargs), index, "mine", "test"),
                idx=0,
                metadata={"task": "mine", "doc_id": index, "repeats": 1},
            )
            for index, text in enumerate(self.documents)
        ]
        return [found.text for found in self.model.generate_until(requests)]

    def _messages(self, text: str) -> list[dict[str, Any]]:
        return [{"role": "user", "content": [{"type": "text", "text": text}]}]


def conversation(text: str, system: str = "") -> list[dict[str, Any]]:
    turns = [("system", system)] if system else []
    return [
        {"role": role, "content": [{"type": "text", "text": part}]}
        for role, part in [*turns, ("user", text)]
    ]


TEXTS = ["hello", "what is a cup?", "please tell me at length what a big red cup is", "what?"]


def test_many_batches_keep_the_order_of_the_documents() -> None:
    texts = [TEXTS[index % 4] for index in range(19)]
    found = Asked(Safesight(device="cpu", batch_size=1, max_new_tokens=LENGTH), texts)()
    once = dict(zip(TEXTS, plain(*map(conversation, TEXTS)), strict=True))
    assert found == [once[text] for text in texts]


def test_a_system_prompt_leads_every_conversation() -> None:
    system = "answer in one sentence."
    model = Safesight(device="cpu", max_new_tokens=LENGTH, system_prompt=system)
    assert Asked(model, TEXTS)() == plain(*(conversation(text, system) for text in TEXTS))


def test_settings_of_a_task_are_kept_or_refused() -> None:
    asked = Asked(Safesight(device="cpu", max_new_tokens=LENGTH), TEXTS[:2])
    whole = asked(until=["\n\n"], image_aspect_ratio="original")
    assert asked(max_new_tokens=2) == plain(*map(conversation, TEXTS[:2]), length=2)
    first = whole[0].split()[0]
    assert asked(until=first)[0] == ""
    sampled = asked(do_sample=True, temperature=5.0, seed=1)
    assert sampled == asked(do_sample=True, temperature=5.0, seed=1)
    assert sampled != asked(temperature=5.0, seed=2)
    assert asked(do_sample=False, temperature=5.0) == whole
    for more in ({"num_beams": 4}, {"repetition_penalty": 1.1}):
        with pytest.raises(InputError, match=rf"Document \d of .*'mine'.*{next(iter(more))}="):
            asked(**more)


def test_placeholders_in_the_text_of_a_task_are_text() -> None:
    model = Safesight(device="cpu", max_new_tokens=LENGTH)
    vlm = model._served.host.vlm
    text = f"{vlm.tokenizer.convert_ids_to_tokens(vlm.image_token_id)} what is this?"
    separate = vlm.control_tokens.plain(text)
    assert Asked(model, [text])() == vlm.answer([conversation(separate)], max_new_tokens=LENGTH)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"defense": "sassa"}, "Did you mean 'sasa'"),
        ({"pretrained": "tesbed"}, "Did you mean 'testbed'"),
        ({"defense": "sasa+npo", "artifact": "no/one;no/other"}, "no/one"),
        ({"batch_size": "0"}, "Use 1 or more"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(given: dict[str, Any], says: str) -> None:
    with pytest.raises(SafesightError, match=says):
        Safesight(device="cpu", **given)


def test_tasks_that_want_more_than_an_answer_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Safesight(device="cpu")
    for method in (model.loglikelihood, model.generate_until_multi_round):
        with pytest.raises(InputError, match="output_type is generate_until"):
            method([])
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="runs in one process"):
        Safesight(device="cpu")
