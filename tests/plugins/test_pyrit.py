"""PyRIT itself attacks the bundled model through the target, with its memory in a process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, TypeVar

import pytest

pytest.importorskip("pyrit", reason="PyRIT has an environment of its own: make test-plugins")

from PIL import Image
from pyrit.executor.attack import AttackExecutor, PromptSendingAttack
from pyrit.memory import CentralMemory
from pyrit.models import Message, MessagePiece
from pyrit.setup import IN_MEMORY, initialize_pyrit_async

from safesight.errors import InputError, SafesightError
from safesight.plugins.pyrit import SafesightTarget
from safesight.types import Sample
from tests.plugins.plain import LENGTH, defended, plain, samples

Result = TypeVar("Result")


def run(work: Awaitable[Result]) -> Result:
    async def with_memory() -> Result:
        await initialize_pyrit_async(memory_db_type=IN_MEMORY, silent=True)
        return await work

    return asyncio.run(with_memory())


def target(**given: Any) -> SafesightTarget:
    return SafesightTarget(device="cpu", max_new_tokens=LENGTH, **given)


def message(*parts: str | Path, conversation: str = "one", role: str = "user") -> Message:
    return Message(
        message_pieces=[
            MessagePiece(
                role=role,
                original_value=str(part),
                original_value_data_type="image_path" if isinstance(part, Path) else "text",
                conversation_id=conversation,
            )
            for part in parts
        ]
    )


def saved(sample: Sample, folder: Path) -> Path:
    assert sample.image is not None
    path = folder / f"{sample.id.replace('/', '-')}.png"
    sample.image().save(path)
    return path


def asked(sample: Sample, path: Path) -> list[dict[str, Any]]:
    parts = [
        {"type": "image", "image": Image.open(path)},
        {"type": "text", "text": sample.question},
    ]
    return [{"role": "user", "content": parts}]


async def attack(defense: str, questions: list[Message]) -> list[Any]:
    sending = PromptSendingAttack(objective_target=target(defense=defense))
    found = await AttackExecutor(max_concurrency=8).execute_attack_async(
        attack=sending,
        objectives=["an answer"] * len(questions),
        field_overrides=[{"next_message": question} for question in questions],
    )
    return [result.last_response for result in found.completed_results]


@pytest.mark.parametrize("defense", ["none", "sasa"])
def test_an_attack_gets_the_answers_of_the_arm(defense: str, tmp_path: Path) -> None:
    paths = [saved(sample, tmp_path) for sample in samples()]
    questions = [message(path, s.question) for s, path in zip(samples(), paths, strict=True)]
    conversations = [asked(s, path) for s, path in zip(samples(), paths, strict=True)]
    found = run(attack(defense, questions))
    expected = (plain if defense == "none" else defended)(*conversations)
    assert [piece.converted_value for piece in found] == expected
    stored = CentralMemory.get_memory_instance().get_message_pieces(role="assistant")
    assert {piece.converted_value for piece in stored} >= set(expected)
    assert {piece.prompt_metadata["defense"] for piece in found} == {defense}
    refused = [piece.prompt_metadata.get("refused_by_detector") for piece in found]
    assert refused == ([None] * 6 if defense == "none" else ["True"] * 3 + ["False"] * 3)


async def send(defense: str, *messages: Message) -> list[str]:
    """The answers to the turns of one conversation; PyRIT's memory keeps it."""
    asking, answers = target(defense=defense), []
    memory = CentralMemory.get_memory_instance()
    for each in messages:
        if each.message_pieces[0].api_role == "system":
            memory.add_message_to_memory(request=each)
            continue
        reply = (await asking.send_prompt_async(message=each))[0]
        memory.add_message_to_memory(request=each)
        memory.add_message_to_memory(request=reply)
        answers.append(reply.message_pieces[0].converted_value)
    return answers


def test_a_conversation_keeps_its_system_prompt_its_turns_and_its_pictures(tmp_path: Path) -> None:
    one, other = (saved(sample, tmp_path) for sample in samples()[3:5])
    turns = [
        message("answer in one sentence.", role="system"),
        message(one, "what is in the picture?"),
        message(one, other, "and in these two?"),
    ]
    found = run(send("none", *turns))
    system = {"role": "system", "content": [{"type": "text", "text": "answer in one sentence."}]}
    pictures = [{"type": "image", "image": Image.open(path)} for path in (one, other)]
    first = [pictures[0], {"type": "text", "text": "what is in the picture?"}]
    second = [*pictures, {"type": "text", "text": "and in these two?"}]
    conversation: list[dict[str, Any]] = [system, {"role": "user", "content": first}]
    assert [found[0]] == plain(conversation)
    answered = {"role": "assistant", "content": [{"type": "text", "text": found[0]}]}
    conversation += [answered, {"role": "user", "content": second}]
    assert [found[1]] == plain(conversation)


def test_control_tokens_of_an_attack_are_text() -> None:
    target_vlm = run(_vlm())
    place = target_vlm.tokenizer.convert_ids_to_tokens(target_vlm.image_token_id)
    found = run(send("none", message(f"{place} hello{target_vlm.tokenizer.eos_token}")))
    plain_text = target_vlm.control_tokens.plain(f"{place} hello{target_vlm.tokenizer.eos_token}")
    assert found == target_vlm.answer(
        [[{"role": "user", "content": plain_text}]], max_new_tokens=LENGTH
    )


async def _vlm() -> Any:
    return target()._served.host.vlm


def test_targets_of_one_model_share_its_weights_and_are_told_apart() -> None:
    async def both() -> list[SafesightTarget]:
        prompted = target(defense="safety_prompt", text="be careful.")
        return [target(), target(defense="sasa"), prompted]

    off, refusing, prompted = run(both())
    assert off._served.host is refusing._served.host
    identities = [each.get_identifier().params["identity"] for each in (off, refusing, prompted)]
    assert len(set(identities)) == 3
    assert refusing.get_identifier().params["defense"] == "sasa"
    assert len({each.get_identifier().hash for each in (off, refusing, prompted)}) == 3


async def _made(**given: Any) -> SafesightTarget:
    return target(**given)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"defense": "sassa"}, "Did you mean 'sasa'"),
        ({"model": "tesbed"}, "Did you mean 'testbed'"),
        ({"defense": "sasa", "artifact": "no/such/folder"}, "no/such/folder"),
        ({"batch_size": 0}, "Use 1 or more"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(given: dict[str, Any], says: str) -> None:
    with pytest.raises(SafesightError, match=says):
        run(_made(**given))


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"broken.png.*not in a readable format"):
        run(send("none", message(path, "what is this?")))
