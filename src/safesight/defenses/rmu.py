"""RMU: unlearning that drives the hidden states of harmful conversations to one meaningless point.

Paper: Chen et al., "Safety Mirage: How Spurious Correlations Undermine VLM Safety Fine-Tuning and
Can Be Mitigated by Machine Unlearning", ICLR 2026, https://arxiv.org/abs/2503.11832; the method is
from Li et al., "The WMDP Benchmark", ICML 2024, https://arxiv.org/abs/2403.03218. No refusal is
taught, so no first word can become associated with one.

Where it acts: on the weights. With h(x)_t the state at the output of block `layer` at token t, v a
random unit vector drawn once, c a length, and theta_0 the original model,

    L_f = mean_{x,t} 1/d || h(x)_t - c v ||^2                  x in the forget set
    L_r = mean_{x,t} 1/d || h(x)_t - h_0(x)_t ||^2             x in the retain set
    L   = forget_weight L_f + retain_alpha L_r + retain_weight CE(retain)

over the tokens selected by `tokens`, in both terms the same unless `retain_tokens` says otherwise:
a term that averages over seventy tokens does not hold the few that the other one moves. With
`fork` it is one token of each answer: the one from which its first token is predicted that no
answer of the other set has (`training.forks`). Behind it the answers of forget and retain rows are
often the same, so states that are driven there are driven in both.

The direction is the authors': each component is drawn from [0, 1], so two draws have a cosine of
about 0.75; `gaussian` is the other common choice. The retain rows of L_r and of CE are drawn
independently.

Cost: one full forward and backward pass per step for CE. L_f and L_r add passes that stop at the
block: two forward and backward, and one forward of the base model.

What it cannot do: the model does not refuse, it goes off topic or writes broken text; report both
along with harmful answers. The point drowns what a state held and erases little of it. The edit is
shallow: removing the direction from the states restores coherence, and a few examples restore the
knowledge.

Where we differ: by default c is a multiple of the states' mean length, as an absolute length means
nothing across widths; padding counts only if requested; the harmful answer is the assistant's turn,
where the authors append it to the question in one turn; with LoRA all blocks are trained, as in the
authors' code, and with full weights the down projections of the block and the two before it.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal, final

import torch
from pydantic import Field, FiniteFloat
from torch import Tensor
from torch.nn import functional as F

from safesight.activations import unit
from safesight.defenses.base import Defense, Parts, Stored
from safesight.defenses.contract import ONE_STEP
from safesight.errors import InputError
from safesight.training.batches import IGNORE, Collator, Rows
from safesight.training.choice import Choice, choose
from safesight.training.forks import Forks
from safesight.training.own_answers import AnswersConfig, settled
from safesight.training.passes import answer_term, labels_of, real_tokens
from safesight.training.run import Fitting, Method, TuningRun, train
from safesight.training.weights import Weights, tuned

if TYPE_CHECKING:
    from safesight.fitting.artifact import Artifact
    from safesight.fitting.data import FitData
    from safesight.models import VLM
    from safesight.training.passes import Batch, Passes, Term
    from safesight.types import TuningSample, TuningSet

__all__ = ["RMU", "RMUConfig", "direction", "distance"]

Tokens = Literal["padded", "all", "text", "query", "answer", "fork"]

_MEASURED = 16
"""Maximum number of forget rows used to measure the length of states."""


class RMUConfig(AnswersConfig):
    """Settings of RMU."""

    layer: int | None = Field(None, ge=0)
    """The block whose output is changed; None is 7/32 of the depth. Source: authors' code."""
    direction: Literal["positive_cone", "gaussian"] = "positive_cone"
    """How v is drawn. Source: authors' code."""
    length: FiniteFloat = Field(2.0, gt=0)
    """c, in units of `length_unit`. Source: ours; authors' code 10, absolute."""
    length_unit: Literal["states", "absolute"] = "states"
    """Relative to the mean length of the states there, or absolute. Source: ours."""
    tokens: Tokens = "all"
    """Which tokens count: every token, all but padding, all but padding and pictures, the
    question's, the answer's, or the one where a row's answer parts from those of the other set.
    Source: ours; the authors' code uses every token."""
    retain_tokens: Tokens | None = None
    """Which tokens of retain rows count; None for the same. Source: authors' code."""
    reduction: Literal["mean", "sum"] = "mean"
    """Over the components of a state. Source: authors' code; the paper's formula sums."""
    forget_weight: FiniteFloat = Field(1.0, ge=0)
    """Weight of L_f. Source: authors' code."""
    retain_alpha: FiniteFloat = Field(1.0, ge=0)
    """Weight of L_r; 0 disables it. Source: authors' code."""
    retain_weight: FiniteFloat = Field(1.0, ge=0)
    """Weight of the cross-entropy on retain rows. Source: authors' code."""


def direction(kind: str, width: int, seed: int) -> Tensor:
    """v: a random unit vector, d, with components drawn from [0, 1] or a normal distribution.

    Example:
        >>> v = direction("positive_cone", 8, seed=0)
        >>> bool((v >= 0).all()), round(float(v.norm()), 4)
        (True, 1.0)
    """
    rng = torch.Generator().manual_seed(seed)
    draw = torch.rand if kind == "positive_cone" else torch.randn
    return unit(draw(width, generator=rng))


def distance(states: Tensor, target: Tensor, mask: Tensor, *, mean: bool = True) -> Tensor:
    """The squared distance of masked states from their targets, averaged over tokens; a scalar.

    Args:
        states: B x L x d.
        target: The same shape, or broadcastable to it.
        mask: The tokens that count; bool, B x L.
        mean: Average over components instead of summing.

    Example:
        >>> states, zero, mask = torch.ones(1, 2, 4), torch.zeros(4), torch.tensor([[True, False]])
        >>> distance(states, zero, mask), distance(states, zero, mask, mean=False)
        (tensor(1.), tensor(4.))
    """
    squares = (states.float() - target.float()).square()
    each = squares.mean(dim=-1) if mean else squares.sum(dim=-1)
    return (each * mask).sum() / mask.sum().clamp(min=1)


@final
class RMU(Defense[RMUConfig, Weights]):
    """Drives the states of harmful conversations to a random point.

    Example:
        >>> RMU(direction="gaussian").config.tokens
        'all'
    """

    name = "rmu"
    headline = ("sft",)
    kind = "weights"
    attacks = ("one_word", "prefill")
    paper = (
        "Chen et al., Safety Mirage: How Spurious Correlations Undermine VLM Safety Fine-Tuning "
        "and Can Be Mitigated by Machine Unlearning, ICLR 2026, arXiv 2503.11832"
    )
    needs = frozenset({"activations", "gradients", "forget_set", "retain_set"})
    fitted = True
    in_demo = True
    contract = ONE_STEP
    Config = RMUConfig

    def fit(
        self,
        vlm: VLM,
        data: FitData,
        *,
        seed: int = 0,
        progress: bool = True,
        run: TuningRun | None = None,
    ) -> Artifact:
        """Train; the model is restored afterwards.

        Raises:
            InputError: there are no rows, a row is invalid, or the block does not exist.
            TrainingError: the run diverged or cannot be resumed.
        """
        config = self.config
        fitting = Fitting(self.name, vlm, data, config, seed, progress, run)
        wanted = {config.tokens, _retained(config)}
        fork = "fork" in wanted
        read = fork or config.tokens == "answer"
        own = config.answers == "self" and config.tokens != "query"
        unlearned: tuple[TuningSet, ...] = ("forget",) if read or own else ()
        fitting, rows = settled(fitting, fitting.rows(), "retain", *unlearned)
        forks = Forks.of(Collator(vlm), rows.forget, rows.retain) if fork else None
        layer = _layer(vlm, config)
        vector = direction(config.direction, vlm.hidden_size, seed)
        sources = {"forget": rows.forget, "retain": rows.retain}
        if config.retain_alpha:
            sources["again"] = rows.retain
        method = Method(
            sources,
            _terms(config, layer, vector, forks),
            prepare=partial(_measure, config, layer, forks, rows.forget[:_MEASURED]),
            queries="query" in wanted,
            tensors={"direction": vector},
        )
        return train(fitting, _choice(vlm, config, layer), method)

    def read(self, stored: Stored, config: RMUConfig) -> Weights:
        """The trained weights."""
        return Weights.read(stored)

    def parts(self, vlm: VLM, config: RMUConfig, fitted: Weights) -> Parts:
        """Installs the trained weights."""
        return Parts(attached=tuned(vlm, fitted))


def _layer(vlm: VLM, config: RMUConfig) -> int:
    layer = round(7 / 32 * vlm.num_layers) if config.layer is None else config.layer
    if layer >= vlm.num_layers:
        raise InputError(
            f"{vlm.name!r} has no block {layer}: its {vlm.num_layers} decoder blocks are counted "
            "from 0. Choose one of them as layer."
        )
    return layer


def _choice(vlm: VLM, config: RMUConfig, layer: int) -> Choice:
    """What is trained: by default, with full weights, three down projections."""
    if config.parameters == "full" and config.layers is None and config.modules is None:
        near = tuple(range(max(0, layer - 2), layer + 1))
        config = config.model_copy(update={"layers": near, "modules": ("mlp.down_proj",)})
    return choose(vlm, config)


def _retained(config: RMUConfig) -> Tokens:
    """The tokens of retain rows that count."""
    return config.tokens if config.retain_tokens is None else config.retain_tokens


def _mask(passes: Passes, rows: Rows, tokens: Tokens, forks: Forks | None) -> Tensor:
    """The tokens that count; bool, B x L."""
    if tokens == "query" or tokens == "answer":
        return labels_of(rows, tokens) != IGNORE
    if tokens == "fork":
        assert forks is not None
        return forks.mask(rows)
    real = real_tokens(rows)
    if tokens == "padded":
        return torch.ones_like(real)
    return real if tokens == "all" else real & ~passes.vlm.image_mask(rows["inputs"])


def _measure(
    config: RMUConfig,
    layer: int,
    forks: Forks | None,
    forget: tuple[TuningSample, ...],
    passes: Passes,
    collator: Collator,
) -> None:
    """Measure the mean length of the states at the block, and set c."""
    lengths: list[Tensor] = []
    for start in range(0, len(forget), config.batch_size):
        rows = collator.rows(forget[start : start + config.batch_size])
        states = passes.states(rows, layer).float()
        mask = _mask(passes, rows, config.tokens, forks).to(states.device)
        lengths.append(states.norm(dim=-1)[mask])
    typical = float(torch.cat(lengths).mean())
    absolute = config.length_unit == "absolute"
    passes.facts["layer"] = layer
    passes.facts["states_length"] = typical
    passes.facts["length"] = config.length * (1.0 if absolute else typical)


def _terms(config: RMUConfig, layer: int, vector: Tensor, forks: Forks | None = None) -> list[Term]:
    """The terms of L."""
    terms: list[Term] = [partial(_forget, config, layer, vector, forks)]
    if config.retain_alpha:
        terms.append(partial(_retain, config, layer, forks))
    return [*terms, partial(answer_term, "retain", config.retain_weight)]


def _forget(
    config: RMUConfig,
    layer: int,
    vector: Tensor,
    forks: Forks | None,
    passes: Passes,
    batch: Batch,
) -> dict[str, Tensor]:
    """forget_weight L_f."""
    states = passes.states(batch["forget"], layer)
    mask = _mask(passes, batch["forget"], config.tokens, forks).to(states.device)
    vector = vector.to(states.device)
    target = passes.facts["length"] * vector
    loss = distance(states, target, mask, mean=config.reduction == "mean")
    return {
        "loss": config.forget_weight * loss,
        "forget_loss": loss,
        "forget_norm": states.float().norm(dim=-1)[mask].mean(),
        "forget_cosine": F.cosine_similarity(states.float(), vector, dim=-1)[mask].mean(),
    }


def _retain(
    config: RMUConfig, layer: int, forks: Forks | None, passes: Passes, batch: Batch
) -> dict[str, Tensor]:
    """retain_alpha L_r."""
    rows = batch["again"]
    with passes.reference():
        before = passes.states(rows, layer)
    states = passes.states(rows, layer)
    mask = _mask(passes, rows, _retained(config), forks).to(states.device)
    loss = distance(states, before, mask, mean=config.reduction == "mean")
    return {
        "loss": config.retain_alpha * loss,
        "retain_loss": loss,
        "retain_norm": states.float().norm(dim=-1)[mask].mean(),
    }
