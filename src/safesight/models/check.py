"""Are the parts of this model where safesight looks for them? A self-check on one small batch.

Runs a few forward passes on a text-only row and a row with a drawn picture, and checks that the
parts of safesight agree. `safesight.defenses.check` adds what defenses do in a generation. It
tests the plumbing only: whether the model is safe or useful is a matter for an evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from safesight.activations import (
    Site,
    add,
    capture,
    edit,
    record_calls,
    replay,
    resid_post,
    resid_pre,
)
from safesight.errors import SafesightError
from safesight.models.vlm import VLM

__all__ = ["Case", "Check", "CheckReport", "check", "checked", "close", "drawn", "rows", "verify"]


@dataclass(frozen=True)
class Check:
    """The result of one check."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True)
class CheckReport:
    """All checks of one model; prints as a table, `to_dict` is JSON-able."""

    model: str
    family: str
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return all(item.ok for item in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """`{"model", "family", "ok", "checks": [{"name", "ok", "detail"}]}`."""
        return {**asdict(self), "checks": [asdict(item) for item in self.checks], "ok": self.ok}

    def __str__(self) -> str:
        width = max(len(item.name) for item in self.checks)
        lines = [
            f"{'ok  ' if item.ok else 'FAIL'}  {item.name:<{width}}  {item.detail}"
            for item in self.checks
        ]
        return "\n".join([f"{self.model} ({self.family})", *lines])


class _FailedError(Exception):
    """A check failed; the message says how."""


_ROOM = {torch.bfloat16: 0.05, torch.float16: 0.01}
"""How far logits may differ through rounding, as a share of the largest absolute logit. 1e-4 for
other types."""


@dataclass(frozen=True)
class Case:
    """The batch of the check, and the result of a plain forward pass on it.

    Example:
        >>> Case.of(VLM.load("testbed")).logits.shape[0]
        2
    """

    vlm: VLM
    inputs: Any
    logits: Tensor
    states: dict[Site, Tensor]

    @property
    def tolerance(self) -> float:
        """The largest difference in logits that counts as zero."""
        return _ROOM.get(self.vlm.dtype, 1e-4) * max(1.0, float(self.logits.abs().max()))

    @classmethod
    def of(cls, vlm: VLM) -> Case:
        """Run the plain forward pass."""
        inputs = vlm.encode(rows())
        sites = [resid_pre(0), *(resid_post(layer) for layer in range(vlm.num_layers))]
        with capture(vlm.layers, sites) as states:
            logits = _logits(vlm, inputs)
        return cls(vlm, inputs, logits, states)

    def state(self, site: Site) -> Tensor:
        """The state at a site in the plain forward pass, B x L x d."""
        verify(site in self.states, f"block {site.layer} never ran")
        return self.states[site]

    def forward(self) -> Tensor:
        """Logits of the batch, B x L x V."""
        with torch.no_grad():
            return _logits(self.vlm, self.inputs)


def check(vlm: VLM, more: Mapping[str, Callable[[VLM], str]] | None = None) -> CheckReport:
    """Check that a model's parts, pictures, hooks, replay and padding work as expected.

    Args:
        vlm: The model.
        more: Further checks by name: they return what they saw, or raise.

    Example:
        >>> check(VLM.load("testbed")).ok
        True
    """
    with torch.no_grad():
        prepared: list[Case] = []
        first = checked("forward", partial(_prepared, prepared, vlm))
        checks = [first]
        for name, part in _CHECKS.items() if prepared else ():
            checks.append(checked(name, partial(part, prepared[0])))
        for name, function in (more or {}).items():
            checks.append(checked(name, partial(function, vlm)))
    return CheckReport(vlm.name, vlm.family.name, tuple(checks))


def checked(name: str, run: Callable[[], str]) -> Check:
    """One check: what it saw, or a sentence about what went wrong, whatever that is."""
    try:
        return Check(name, True, run())
    # A model may fail in any way, and the report is there to say so.
    except Exception as error:
        reason = " ".join(str(error).split()) or "no reason given"
        kind = "" if isinstance(error, _FailedError | SafesightError) else f"{_named(error)}: "
        return Check(name, False, f"{kind}{reason[:300]}")


def _named(error: Exception) -> str:
    return f"it raised {type(error).__name__}"


def _prepared(found: list[Case], vlm: VLM) -> str:
    found.append(Case.of(vlm))
    return f"a row with a picture and one without, {found[0].inputs['input_ids'].shape[1]} tokens"


def drawn() -> Image.Image:
    """A red disc on white."""
    picture = Image.new("RGB", (96, 80), "white")
    ImageDraw.Draw(picture).ellipse((20, 16, 70, 66), fill="red", outline="black")
    return picture


def rows() -> list[list[dict[str, Any]]]:
    """A question about a picture, and one without."""
    text = {"type": "text", "text": "what is this?"}
    return [
        [{"role": "user", "content": [{"type": "image", "image": drawn()}, text]}],
        [{"role": "user", "content": [{"type": "text", "text": "hello"}]}],
    ]


def _logits(vlm: VLM, inputs: Any) -> Tensor:
    logits: Tensor = vlm.model(**inputs).logits
    return logits


def _chat_template(case: Case) -> str:
    tail = case.vlm.tokenizer.decode(case.inputs["input_ids"][1, -5:])
    return f"prompts end in {tail!r}"


def _sites(case: Case) -> str:
    shape = (*case.inputs["input_ids"].shape, case.vlm.hidden_size)
    sites = [resid_post(layer) for layer in range(case.vlm.num_layers)]
    wrong = [site for site in sites if case.state(site).shape != shape]
    verify(not wrong, f"not of shape {shape}: {', '.join(map(str, wrong[:3]))}")
    return f"{case.vlm.num_layers} decoder blocks, states of shape {shape}"


def _image_span(case: Case) -> str:
    ids = case.inputs["input_ids"]
    mask = case.vlm.image_mask(case.inputs)
    changed = (case.state(resid_pre(0)) != case.vlm.embed_tokens(ids)).any(dim=-1)
    count = int(mask[0].sum())
    verify(count > 0, "the row with a picture has no image token")
    verify(not mask[1].any(), "the row without a picture has image tokens")
    verify(torch.equal(mask, changed), "image tokens are not the ones that hold visual features")
    return f"{count} image tokens, each holding a visual feature"


def _unembedding(case: Case) -> str:
    again = case.vlm.logits_of(case.state(resid_post(case.vlm.num_layers - 1)))
    return close(again, case.logits, case, "final norm and head give the model's logits")


def _hooks(case: Case) -> str:
    middle = case.vlm.num_layers // 2
    vector = torch.ones(case.vlm.hidden_size)
    with edit(case.vlm.layers, {resid_post(middle): add(vector, strength=0.0)}):
        zero = case.forward()
    with edit(case.vlm.layers, {resid_post(middle): add(vector, tokens="last")}):
        changed = case.forward()
    reached = not torch.equal(changed[:, -1], case.logits[:, -1])
    verify(torch.equal(zero, case.logits), "an edit of strength 0 changed the logits")
    verify(reached, "an edit did not reach the logits")
    verify(torch.equal(case.forward(), case.logits), "the logits differ after an edit was removed")
    return "edits act, strength 0 and removal are bit-identical"


def _replay(case: Case) -> str:
    layers, start = case.vlm.layers, max(1, case.vlm.num_layers // 3)
    with record_calls(layers, start) as calls:
        case.forward()
    again = replay(layers, calls, case.state(resid_post(start - 1)), start)
    last = case.state(resid_post(len(layers) - 1))
    real = case.inputs["attention_mask"].bool().to(again.device)
    # Compared as logits, so that one tolerance fits all: raw states may be of any magnitude.
    return close(
        case.vlm.logits_of(again[real]),
        case.vlm.logits_of(last.to(again.device)[real]),
        case,
        f"blocks {start} to {len(layers) - 1} run again give the same states",
    )


def _padding(case: Case) -> str:
    alone = _logits(case.vlm, case.vlm.encode([rows()[1]]))[0]
    return close(case.logits[1, -len(alone) :], alone, case, "a padded row equals the row alone")


def verify(fact: Tensor | bool, message: str) -> None:
    """Fail the check that calls this unless the fact holds."""
    if not fact:
        raise _FailedError(message)


def close(one: Tensor, other: Tensor, case: Case, fact: str) -> str:
    """The fact that two logits are equal but for rounding; otherwise fail the check."""
    gap = float((one.float() - other.to(one.device).float()).abs().max())
    verify(
        gap <= case.tolerance,
        f"not so: {fact} (largest difference {gap:.2g}, allowed {case.tolerance:.2g})",
    )
    return f"{fact} (largest difference {gap:.1g})"


_CHECKS: dict[str, Callable[[Case], str]] = {
    "chat template": _chat_template,
    "sites": _sites,
    "image span": _image_span,
    "unembedding": _unembedding,
    "hooks": _hooks,
    "replay": _replay,
    "padding": _padding,
}
