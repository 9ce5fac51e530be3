"""What gives a label away besides the request: pictures, sources, forms of the conversation.

If harmful rows always have a picture and benign ones do not, a probe that is fitted on them may
learn to see pictures. So each such nuisance is measured by itself: how well does it alone tell
harmful rows from benign ones?
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from safesight.types import Label, Sample

__all__ = ["Nuisance", "nuisances"]

ALARMING = 0.7
"""AUROC from which a nuisance is warned about."""
FOLDS = 5
_KINDS: Mapping[str, Callable[[Sample], str]] = {
    "having a picture": lambda s: "yes" if s.image is not None else "no",
    "the number of pictures": lambda s: str(len(s.pictures)),
    "the kind of picture": lambda s: str(s.facts.get("picture")),
    "the source": lambda s: str(s.facts.get("source")),
    "having a system prompt": lambda s: "no" if s.system is None else "yes",
    "having earlier turns": lambda s: "yes" if len(s.turns) > 1 else "no",
    "a begun answer": lambda s: "no" if s.prefill is None else "yes",
}


@dataclass(frozen=True)
class Nuisance:
    """One property of the rows, and what it alone says about the label."""

    name: str
    auroc: float
    """That of a classifier of this property alone, cross-validated."""
    always: Label | None
    """The label whose rows all have one value of it, if the other label's do not."""

    @property
    def alarming(self) -> bool:
        """Whether a probe may learn it in place of the request."""
        return self.auroc >= ALARMING or self.always is not None

    @property
    def sentence(self) -> str:
        """The warning.

        Example:
            >>> Nuisance("the source", 0.91, None).sentence
            'The source alone tells harmful rows from benign ones with an AUROC of 0.91.'
        """
        name = f"{self.name[0].upper()}{self.name[1:]}"
        always = f" All {self.always} rows are alike in it." if self.always else ""
        told = f"alone tells harmful rows from benign ones with an AUROC of {self.auroc:.2f}."
        return f"{name} {told}{always}"


def nuisances(samples: Sequence[Sample], *, seed: int = 0) -> list[Nuisance]:
    """Every property that differs between rows, the most telling first.

    Args:
        samples: Labelled samples. With fewer than five of a label, nothing can be said.
        seed: Seed of the folds.

    Example:
        >>> from PIL import Image
        >>> with_picture = dict(image=lambda: Image.new("RGB", (4, 4)), target="")
        >>> rows = [Sample(f"h{i}", "?", "harmful", **with_picture) for i in range(10)]
        >>> rows += [Sample(f"b{i}", "?", "benign", target="") for i in range(10)]
        >>> found = nuisances(rows)[0]
        >>> found.name, found.auroc
        ('having a picture', 1.0)
    """
    harmful = np.array([sample.label == "harmful" for sample in samples], dtype=bool)
    if min(int(harmful.sum()), int((~harmful).sum())) < FOLDS:
        return []
    found = []
    for name, value in _KINDS.items():
        values = [value(sample) for sample in samples]
        if len(set(values)) > 1:
            found.append(Nuisance(name, _auroc(values, harmful, seed), _always(values, samples)))
    found.sort(key=lambda nuisance: -nuisance.auroc)
    return [each for index, each in enumerate(found) if not _repeats(each, found[:index])]


def _repeats(nuisance: Nuisance, before: Sequence[Nuisance]) -> bool:
    """The number of pictures says the same as having one if no row has several."""
    pair = {"having a picture", "the number of pictures"}
    return nuisance.name in pair and any(
        each.name in pair and each.auroc == nuisance.auroc for each in before
    )


def _auroc(values: Sequence[str], harmful: np.ndarray, seed: int) -> float:
    """Cross-validated, as a probe's is."""
    table = np.array(values, dtype=object)[:, None]
    model = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression())
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    scores = cross_val_predict(model, table, harmful, cv=folds, method="predict_proba")[:, 1]
    # The folds' models differ in the last digits, which would count as an order.
    return float(roc_auc_score(harmful, scores.round(2)))


def _always(values: Sequence[str], samples: Sequence[Sample]) -> Label | None:
    by_label = {
        label: {value for value, s in zip(values, samples, strict=True) if s.label == label}
        for label in get_args(Label)
    }
    alike: list[Label] = [label for label, found in by_label.items() if len(found) == 1]
    return alike[0] if len(alike) == 1 else None
