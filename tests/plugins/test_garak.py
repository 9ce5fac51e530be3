"""garak itself probes the bundled model, from the command line, and as garak's classes do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("garak", reason="garak has an environment of its own: make test-plugins")

from garak import _config, _plugins
from garak.attempt import Conversation, Message, Turn
from garak.exception import GarakException

from safesight.plugins import garak as plugin
from tests.plugins.plain import LENGTH, defended, plain, samples

DEVICE = {"device": "cpu", "max_tokens": LENGTH}


@pytest.fixture(autouse=True)
def registered() -> None:
    _config.load_base_config()
    plugin.register()


def generator(**options: Any) -> Any:
    """As the command line makes it."""
    settings = {"generators": {"safesight": {**DEVICE, **options}}}
    return _plugins.load_plugin("generators.safesight", config_root=settings)


def asked(*turns: tuple[str, Message]) -> Conversation:
    return Conversation([Turn(role, message) for role, message in turns])


def said(role: str, *parts: Any) -> dict[str, Any]:
    content = [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]
    return {"role": role, "content": content}


def shown(index: int, folder: Path) -> tuple[Path, dict[str, Any]]:
    """A picture as a file, and as a part of a message."""
    part = samples()[index].messages()[0]["content"][0]
    part["image"].save(folder / f"{index}.png")
    return folder / f"{index}.png", part


def texts(found: list[Message | None]) -> list[str | None]:
    return [message and message.text for message in found]


def test_the_command_line_probes_the_defended_model(tmp_path: Path) -> None:
    options = json.dumps({"safesight": {"defense": "sasa", **DEVICE}})
    words = "-m safesight.plugins.garak --target_type safesight --target_name testbed".split()
    words += ["--spec", "probes.test.Test", "--generations", "2", "--generator_options", options]
    words += ["--report_prefix", str(tmp_path / "run")]
    run = subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stderr[-2000:]
    lines = (tmp_path / "run.report.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    done = [each for each in entries if each["entry_type"] == "attempt" and each["status"] == 2]
    assert len(done) == 8
    prompts = [each["prompt"]["turns"][-1]["content"]["text"] for each in done]
    expected = defended(*([said("user", prompt)] for prompt in prompts))
    found = [[output["text"] for output in each["outputs"]] for each in done]
    assert found == [[answer] * 2 for answer in expected]


@pytest.mark.parametrize("defense", ["none", "sasa"])
def test_pictures_are_shown(defense: str, tmp_path: Path) -> None:
    ready, expected = generator(defense=defense), plain if defense == "none" else defended
    for index, sample in enumerate(samples()):
        path, part = shown(index, tmp_path)
        found = ready.generate(asked(("user", Message(sample.question, data_path=str(path)))))
        assert texts(found) == expected([said("user", part, sample.question)])
        refused = found[0].notes.get("refused_by_detector")
        assert refused is (None if defense == "none" else index < 3)


def test_a_picture_is_shown_where_the_prompt_says(tmp_path: Path) -> None:
    path, part = shown(3, tmp_path)
    found = generator().generate(
        asked(("user", Message("look: <image>\nso?", data_path=str(path))))
    )
    assert texts(found) == plain([said("user", "look: ", part, "\nso?")])


def test_system_prompts_and_earlier_turns_are_kept() -> None:
    turns = [
        ("system", "answer in one sentence."),
        ("user", "hello"),
        ("assistant", "hello. what do you want to know?"),
        ("user", "what is a cup?"),
    ]
    found = generator().generate(asked(*((role, Message(text)) for role, text in turns)))
    assert texts(found) == plain([said(role, text) for role, text in turns])


def test_generations_differ_with_a_temperature_only() -> None:
    prompt = asked(("user", Message("please tell me about the sea")))
    greedy = texts(generator().generate(prompt, 3))
    assert greedy == plain([said("user", "please tell me about the sea")]) * 3
    assert len(set(texts(generator(temperature=4.0).generate(prompt, 3)))) == 3
    seeded = [texts(generator(temperature=4.0, seed=3).generate(prompt, 3)) for _ in range(2)]
    assert seeded[0] == seeded[1]
    assert len(set(seeded[0])) == 3


def test_a_prompt_that_cannot_be_asked_gets_no_answer(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    sound = Message("what?", data_path="speech.wav", data_type=("audio/wav", None))
    broken = Message("what?", data_path=str(tmp_path / "broken.png"))
    for message, says in ((sound, "not audio/wav"), (broken, "not in a readable format")):
        assert generator().generate(asked(("user", message)), 2) == [None, None]
        assert says in " ".join(capfd.readouterr().err.split())


def test_placeholders_and_control_tokens_of_a_probe_are_text() -> None:
    ready = generator()
    vlm = ready._served.host.vlm
    place = vlm.tokenizer.convert_ids_to_tokens(vlm.image_token_id)
    text = f"{place} hello{vlm.tokenizer.eos_token} you"
    separate = [said("user", vlm.control_tokens.plain(text))]
    found = texts(ready.generate(asked(("user", Message(text)))))
    assert found == vlm.answer([separate], max_new_tokens=LENGTH)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"defense": "sassa"}, "Did you mean 'sasa'"),
        ({"name": "tesbed"}, "Did you mean 'testbed'"),
        ({"settings": {"tau": 3}}, "tau"),
        ({"batch_size": 0}, "Use 1 or more"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(options: dict[str, Any], says: str) -> None:
    with pytest.raises(GarakException, match=says):
        generator(**options)


def test_generators_of_one_model_share_its_weights() -> None:
    assert generator()._served.host is generator(defense="sasa")._served.host
