"""Does this model work under defenses? A self-check of what they do in a generation.

`check` is the whole of it: the parts of the model (`safesight.models.check`), and one generation
as each kind of defense runs it. `require` is the short form that every attached defense and
every fit goes through once per model: it stops where answers would be undefended or wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from safesight.activations import resid_post
from safesight.errors import MissingExtraError, ModelError
from safesight.generation.calls import undefended
from safesight.generation.detectors import generate_guarded
from safesight.generation.last_token import at_last
from safesight.generation.prefill import Decision, Prefill
from safesight.models.check import Check, CheckReport, checked, drawn, verify
from safesight.models.check import check as check_parts
from safesight.models.quantized import is_quantized
from safesight.models.wrappers import adapters, is_offloaded
from safesight.training.choice import choose
from safesight.training.config import TuningConfig
from safesight.training.weights import installed

if TYPE_CHECKING:
    from safesight.models import VLM

__all__ = ["check", "require"]

_NEW = 3
"""Tokens that each generation of the check writes."""


def check(vlm: VLM) -> CheckReport:
    """Check a model's parts and run what defenses run: a detector, an edit, a training step.

    Example:
        >>> from safesight.models import VLM
        >>> check(VLM.load("testbed")).ok
        True
    """
    with torch.no_grad():
        return check_parts(vlm, {**_GENERATION, "training step": _training_step})


def require(vlm: VLM, kind: str) -> None:
    """Refuse a model under which a defense of this kind would not act; looked at once per model.

    Args:
        vlm: The model.
        kind: A defense's `kind`.

    Raises:
        ModelError: a check failed; the message says which and how.
    """
    known = _seen.setdefault(vlm.model, {})
    for name in ("generate", *_NEEDED.get(kind, ())):
        if name not in known:
            with torch.no_grad():
                found = checked(name, partial(_GENERATION[name], vlm))
            if not found.ok:  # and not known: it may pass when there is more memory
                raise ModelError(
                    f"The self-check of {vlm.name!r} failed ({name}): {found.detail} See "
                    "safesight check."
                )
            known[name] = found


_seen: WeakKeyDictionary[nn.Module, dict[str, Check]] = WeakKeyDictionary()
_NEEDED = {
    "detector": ("logits processors", "detector"),
    "pipeline": ("logits processors",),
    "activation": ("edit",),
}
"""What a kind of defense does beyond generating."""


def _batch(vlm: VLM) -> dict[str, Any]:
    """Two rows of different lengths with a picture each, which every model here can take."""
    picture = {"type": "image", "image": drawn()}
    questions = ("what is this?", "hello")
    messages = [
        [{"role": "user", "content": [picture, {"type": "text", "text": text}]}]
        for text in questions
    ]
    return dict(vlm.encode(messages))


def _settings(vlm: VLM) -> dict[str, Any]:
    pad = vlm.tokenizer.pad_token_id
    return {"max_new_tokens": _NEW, "do_sample": False, "pad_token_id": pad}


def _plain(vlm: VLM, inputs: dict[str, Any]) -> Tensor:
    sequences: Tensor = undefended(vlm)(**inputs, **_settings(vlm))
    return sequences


def _generate(vlm: VLM) -> str:
    inputs = _batch(vlm)
    length = inputs["input_ids"].shape[1]
    kept = torch.equal(_plain(vlm, inputs)[:, :length], inputs["input_ids"])
    verify(kept, "generate does not return the prompt in front of the answer.")
    return "answers follow their prompts"


def _processors(vlm: VLM) -> str:
    """Some models' own `generate` drops the logits processors that it is given."""
    inputs = _batch(vlm)
    length = inputs["input_ids"].shape[1]
    token = int(vlm.tokenizer("a", add_special_tokens=False)["input_ids"][0])

    def force(input_ids: Tensor, scores: Tensor) -> Tensor:
        forced = torch.full_like(scores, -torch.inf)
        forced[:, token] = 0
        return forced

    sequences = undefended(vlm)(**inputs, **_settings(vlm), logits_processor=[force])
    obeyed = sequences.shape[1] > length and bool((sequences[:, length:] == token).all())
    verify(
        obeyed, "its generate ignores logits processors, through which defenses act on an answer."
    )
    return "a logits processor is obeyed"


@dataclass
class _Trial:
    """A detector that refuses the first row."""

    layer: int
    refusal: str = "no"
    replay_from: int | None = None
    seen: list[Tensor] = field(default_factory=list)

    @property
    def sites(self) -> list[Any]:
        """The output of one block."""
        return [resid_post(self.layer)]

    def judge(self, prefill: Prefill) -> Decision:
        """Keep the last prompt token's state of every row."""
        last = prefill.at_last(prefill.states[self.sites[0]]).float().cpu()
        self.seen.append(last)
        scores = torch.zeros(len(last))
        scores[0] = 1
        return Decision(scores, scores > 0.5, 0.5)


def _detector(vlm: VLM) -> str:
    inputs = _batch(vlm)
    plain, trial = _plain(vlm, inputs), _Trial(vlm.num_layers - 1)
    call = {**inputs, **_settings(vlm)}
    guarded, outcome = generate_guarded(undefended(vlm), vlm, {"trial": trial}, call)
    decision = outcome.decisions["trial"]
    verify(len(trial.seen) == 1, f"a detector could not judge the prompt: {decision.error}.")
    shape = (len(plain), vlm.hidden_size)
    verify(
        trial.seen[0].shape == shape,
        f"the last prompt token's states are of shape {tuple(trial.seen[0].shape)}, not {shape}.",
    )
    text = vlm.decode(guarded, inputs["input_ids"].shape[1])[0]
    verify(text.startswith(trial.refusal), f"a refused row was answered {text!r}.")
    width = min(plain.shape[1], guarded.shape[1])
    same = torch.equal(plain[1, :width], guarded[1, :width])
    verify(same, "the row that was not refused got another answer.")
    return "a detector sees the prompt and refuses one row of two"


def _edit(vlm: VLM) -> str:
    inputs = _batch(vlm)
    wanted = {"output_logits": True, "return_dict_in_generate": True}
    layer = vlm.num_layers // 2
    slope = torch.linspace(-1, 1, vlm.hidden_size)

    def logits(change: Callable[[Tensor], Tensor] | None) -> Tensor:
        with at_last(vlm, inputs, {} if change is None else {layer: change}):
            output = undefended(vlm)(**inputs, **{**_settings(vlm), "max_new_tokens": 1}, **wanted)
        first: Tensor = output.logits[0]
        return first

    still = logits(lambda states: states)
    pushed = logits(lambda states: states + states.norm(dim=-1, keepdim=True) * slope.to(states))
    plain = logits(None)
    verify(torch.equal(still, plain), "an edit of nothing changed a logit.")
    verify(not torch.equal(pushed, plain), "an edit of the prompt did not reach the answer.")
    return "an edit of the prompt reaches the answer and leaves no trace"


def _training_step(vlm: VLM) -> str:
    """One backward pass through new adapters of the last block, which are then removed."""
    if is_quantized(vlm.model) or is_offloaded(vlm.model) or any(adapters(vlm.model)):
        return "not run: quantized, offloaded and adapted weights are not trained"
    inputs = _batch(vlm)
    settings = {"rank": 1, "layers": (vlm.num_layers - 1,)}
    try:
        choice = choose(vlm, TuningConfig.model_validate(settings))
        before = vlm.model(**inputs).logits
        with torch.enable_grad(), installed(vlm, choice, training=True) as adapted:
            vlm.model(**inputs).logits.float().square().mean().backward()
            reached = [p for p in adapted.parameters.values() if p.grad is not None]
            moved = any(bool(p.grad.any()) for p in reached if p.grad is not None)
    except MissingExtraError as error:
        return f"not run: {error}"
    verify(moved, "no gradient reached the adapters of the last block.")
    after = vlm.model(**inputs).logits
    verify(torch.equal(before, after), "the logits differ after the adapters were removed.")
    return f"gradients reach {len(choice.lora)} linear layers of the last block"


_GENERATION: dict[str, Callable[[VLM], str]] = {
    "generate": _generate,
    "logits processors": _processors,
    "detector": _detector,
    "edit": _edit,
}
