"""What a loss can compute on a model in training: log-likelihoods, hidden states, base outputs.

A method's loss is a sum of terms, each with its own backward pass. The graph of one term is freed
before the next is built, so memory is that of one forward pass, however many terms there are.
`Passes` runs forward passes and knows nothing about methods. `Objective` wraps the terms in one
module, for code that wraps modules (data parallelism, autocast).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from safesight.activations import hooked
from safesight.training.batches import IGNORE, Rows
from safesight.training.losses import cross_entropy, row_losses

if TYPE_CHECKING:
    from safesight.models import VLM
    from safesight.training.weights import Installed

__all__ = [
    "Batch",
    "Objective",
    "Passes",
    "Target",
    "Term",
    "answer_term",
    "labels_of",
    "real_tokens",
    "summed",
]

Batch = Mapping[str, Rows]
"""Rows by the name of their source."""

Target = Literal["answer", "query", "both"]

Term = Callable[["Passes", Batch], dict[str, Tensor]]
"""One term of a method's loss: its value under "loss", and scalars to log under their names."""


def labels_of(rows: Rows, target: Target) -> Tensor:
    """The labels of the target's tokens; B x L."""
    if target == "both":
        return torch.where(rows["answer"] == IGNORE, rows["query"], rows["answer"])
    return rows[target]


def real_tokens(rows: Rows) -> Tensor:
    """True where there is no padding; bool, B x L."""
    return rows["inputs"]["attention_mask"].bool()


def answer_term(name: str, weight: float, passes: Passes, batch: Batch) -> dict[str, Tensor]:
    """Weight * CE on the answers of the rows under this name."""
    found = passes.cross_entropy(batch[name])
    return {"loss": weight * found, "cross_entropy": found}


def summed(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The log of the whole loss from the logs of its terms.

    Example:
        >>> summed([{"loss": 1.0, "cross_entropy": 2.0}, {"loss": 0.5}])
        {'loss': 1.5, 'cross_entropy': 2.0}
    """
    whole = {name: value for each in parts for name, value in each.items()}
    return {**whole, "loss": sum(each["loss"] for each in parts)}


class _Reached(Exception):
    """Raised once the wanted block has run; later blocks need not run."""


class Passes:
    """Forward passes of a model in training, and of its base."""

    def __init__(self, vlm: VLM, result: Installed) -> None:
        self.vlm, self.result = vlm, result
        self._can_keep = "logits_to_keep" in inspect.signature(vlm.model.forward).parameters
        self.facts: dict[str, float] = {}
        """Values a method measured before the first step."""
        self.memory: dict[str, dict[str, float]] = {}
        """Values computed by `remembered`, by quantity and row id."""

    def logits(self, rows: Rows, *, keep: int | None = None) -> Tensor:
        """B x L x V, or only the last `keep` tokens."""
        extra: dict[str, Any] = {"use_cache": False}
        if keep is not None and self._can_keep:
            extra["logits_to_keep"] = keep
        logits: Tensor = self.vlm.model(**rows["inputs"], **extra).logits
        return logits if keep is None else logits[:, -keep:]

    def answer_logits(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Logits and labels of the answers alone: B x (1 + width) x V and B x (1 + width)."""
        keep = rows["width"] + 1
        return self.logits(rows, keep=keep), rows["answer"][:, -keep:]

    def row_losses(self, rows: Rows, target: Target = "answer", *, mean: bool = True) -> Tensor:
        """The negative log-likelihood of each row's target; B. See `losses`."""
        if target == "answer":
            return row_losses(*self.answer_logits(rows), mean=mean)
        return row_losses(self.logits(rows), labels_of(rows, target), mean=mean)

    def cross_entropy(self, rows: Rows) -> Tensor:
        """The mean over all answer tokens of a batch."""
        return cross_entropy(*self.answer_logits(rows))

    def states(self, rows: Rows, layer: int) -> Tensor:
        """The output of a decoder block, B x L x d; later blocks do not run."""
        found: list[Tensor] = []

        def stop(_: nn.Module, __: Any, output: Any) -> None:
            found.append(output[0] if isinstance(output, tuple) else output)
            raise _Reached

        with hooked() as hooks, suppress(_Reached):
            hooks.after(self.vlm.layers[layer], stop)
            self.vlm.model(**rows["inputs"], use_cache=False)
        return found[0]

    @contextmanager
    def outputs_of_last_block(self) -> Iterator[list[Tensor]]:
        """Inside, each forward pass appends the last block's output: B x L x d, no gradient."""
        found: list[Tensor] = []

        def note(_: nn.Module, __: Any, output: Any) -> None:
            found.append((output[0] if isinstance(output, tuple) else output).detach())

        with hooked() as hooks:
            hooks.after(self.vlm.layers[-1], note)
            yield found

    def autocast(self) -> torch.autocast:
        """Inside, a model in half precision computes in it, though trained parameters are float32.

        Adapters are float32 beside weights of any dtype; PEFT sees to that.
        """
        half = bool(self.result.whole) and self.vlm.dtype != torch.float32
        return torch.autocast(self.vlm.device.type, dtype=self.vlm.dtype, enabled=half)

    @contextmanager
    def reference(self) -> Iterator[None]:
        """Inside, forward passes are those of the base model, without gradients or dropout."""
        model = self.vlm.model
        was_training = model.training
        model.eval()
        try:
            with torch.no_grad(), self.result.off():
                yield
        finally:
            model.train(was_training)

    def remembered(self, name: str, rows: Rows, compute: Callable[[Rows], Tensor]) -> Tensor:
        """The base model's value for each row, B; computed once per row and then looked up.

        Args:
            name: The quantity's name.
            rows: The batch; if one of its rows is new, all are computed.
            compute: Maps rows to one number each, B.
        """
        known = self.memory.setdefault(name, {})
        if any(row not in known for row in rows["ids"]):
            with self.reference():
                values = compute(rows).float().tolist()
            for row, value in zip(rows["ids"], values, strict=True):
                known.setdefault(row, value)
        return torch.tensor([known[row] for row in rows["ids"]], device=self.vlm.device)


class Objective(nn.Module):
    """The terms of a method's loss as one module around the model it trains."""

    accepts_loss_kwargs = False
    """Losses are means over a batch; the Trainer divides them when it accumulates batches."""

    def __init__(self, passes: Passes, terms: Sequence[Term]) -> None:
        super().__init__()
        self.model = passes.vlm.model
        self.passes, self.terms = passes, tuple(terms)

    def forward(self, term: int, **batch: Any) -> dict[str, Tensor]:
        """One term for a batch; values that are only logged have no gradient."""
        with self.passes.autocast():
            parts = self.terms[term](self.passes, batch)
        return {
            name: value if name == "loss" else value.detach().float()
            for name, value in parts.items()
        }
