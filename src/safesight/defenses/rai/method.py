"""RAI: add words for risk to the visual tokens that resemble them, once, in the prefill.

Paper: Wang, Chen, Xu, He, Jiang, Li; "Risk Awareness Injection" (RAI); ICML 2026;
https://arxiv.org/abs/2602.03402. Its claim: language models recognise unsafe content in
text, and visual input dilutes that signal; unsafe words as prototypes, and a targeted
change of the visual tokens near them, bring it back without any training. Of the paper
only abstract and opening could be read. The equations follow a third party's account of
them; defaults say which source they have.

Where it acts: on visual tokens of the prompt, once, in the prefill, at the input of block 0
(or a block's output). Text tokens and decoding steps keep their bits. With h_v the state of
a visual token and u_k the embedding of the k-th unsafe word (`injection` has the code):

    s_vk = cos(h_v, u_k)                                            (1)
    K_v  = { k : s_vk > tau }                                       (2)
    h'_v = h_v + gamma * sum over k in K_v of s_vk u_k / ||u_k||    (3)

gamma is the setting `strength`; 1 is the published formula. The prototypes are stacked, nothing
more: "subspace" is the paper's name for the stack, not an operation.

What is fitted: tau, so that a stated share of the visual tokens of a few hundred unlabelled
pictures passes; no training. With layer, ratio or strength "auto" they are chosen on labelled
samples: the most refused attacks whose benign losses stay within a bound.

What it cannot do: it re-awakens refusals, so a model that does not refuse the same request in
text has nothing to awaken; harm that no single visual token shows, and harm in text, pass by;
nothing is known of attackers who optimise against the gate. Words and visual tokens must share
a space, which a projector gives weakly. A video is refused with an error: frames are not read.

Where we differ: the input of block 0 instead of its output, as the words live there; tau
calibrated, as none is stated; the search, `strength`, `norm_matched`, `centered`, `top_k` and
"contextual" prototypes are ours, and off by default.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, final

from torch import Tensor

from safesight.defenses.base import Defense, Parts, Stored
from safesight.defenses.contract import Contract
from safesight.defenses.rai.calibration import Layer, pictures_of, read_taps, site_of
from safesight.defenses.rai.config import RAIConfig
from safesight.defenses.rai.injection import Injection, generate_shifted
from safesight.defenses.rai.prototypes import word_tokens, words_for
from safesight.defenses.rai.search import search
from safesight.errors import ModelError
from safesight.fitting.artifact import Artifact
from safesight.fitting.provenance import provenance

if TYPE_CHECKING:
    from safesight.fitting.data import FitData
    from safesight.models import VLM

__all__ = ["RAI", "RAIConfig", "candidate_layers", "injection_of"]

RATIOS = (0.01, 0.1, 0.2, 0.3)
STRENGTHS = (1.0, 4.0, 16.0, 64.0)
"""What "auto" tries. The smallest ratio is the largest that a secondary source names. On the
bundled model the best ratio is inside, and a strength above 16 changes little."""


def candidate_layers(num_layers: int, layer: Layer | Literal["auto"]) -> list[Layer]:
    """Where the fit looks, the preferred place first.

    Raises:
        ModelError: the model does not have that block.

    Example:
        >>> candidate_layers(32, "auto"), candidate_layers(32, 3)
        (['embed', 0, 8, 16], [3])
    """
    if layer == "auto":
        return ["embed", *sorted({0, num_layers // 4, num_layers // 2})]
    if layer != "embed" and layer >= num_layers:
        raise ModelError(
            f"RAI cannot act after block {layer}: this model has {num_layers} decoder blocks, "
            f'counted from 0. Choose a layer up to {num_layers - 1}, or "embed".'
        )
    return [layer]


@dataclass(frozen=True)
class RAIFitted:
    """What a fit of RAI found."""

    layer: Layer
    tau: float
    strength: float
    prototypes: Tensor
    """u_k, K x d."""
    token_mean: Tensor | None
    """d, if centered."""
    word_mean: Tensor | None


def injection_of(config: RAIConfig, fitted: RAIFitted) -> Injection:
    """The injection that settings and a fit describe; see `Defense.resolve`."""
    return Injection(
        site_of(fitted.layer),
        fitted.prototypes,
        fitted.tau if config.tau is None else config.tau,
        fitted.strength if config.strength == "auto" else config.strength,
        config.norm_matched,
        config.top_k,
        fitted.token_mean,
        fitted.word_mean,
    )


@final
class RAI(Defense[RAIConfig, RAIFitted]):
    """Risk Awareness Injection."""

    name = "rai"
    headline = ()
    kind = "activation"
    paper = "Wang et al., Risk Awareness Injection, ICML 2026, arXiv 2602.03402"
    needs = frozenset({"activations"})
    fitted = True
    in_demo = True
    contract = Contract(
        zero={"strength": 0.0, "tau": -1.0},
        # The gate stands open and the push is hard.
        fitted={"tau": -1.0, "strength": 16.0},
    )
    Config = RAIConfig

    def fit(self, vlm: VLM, data: FitData, *, seed: int = 0, progress: bool = True) -> Artifact:
        """Look the words up and set tau; with "auto" choose what is left open.

        Labels are looked at for "auto" only. The model is not changed.

        Raises:
            InputError: no sample has a picture, or the tokenizer lacks a word.
            ModelError: the model does not have the layer.
        """
        config = self.config
        words = config.words or words_for(vlm.name)
        layers = candidate_layers(vlm.num_layers, config.layer)
        pool = pictures_of(data, config.pictures, seed)
        taps = list(read_taps(vlm, words, layers, pool, config, progress=progress).values())
        ratios = RATIOS if config.ratio == "auto" else (config.ratio,)
        strengths = STRENGTHS if config.strength == "auto" else (config.strength,)
        (tap, ratio, strength), tried = (taps[0], ratios[0], strengths[0]), list[dict[str, Any]]()
        if "auto" in (config.layer, config.ratio, config.strength):
            among = {"ratios": ratios, "strengths": strengths}
            (tap, ratio, strength), tried = search(
                vlm, taps, data, config, **among, seed=seed, progress=progress
            )
        tau = tap.injection(ratio, strength, config).tau
        means = {"token_mean": tap.token_mean, "word_mean": tap.word_mean}
        return Artifact(
            self.name,
            config.model_dump(mode="json"),
            {
                "layer": tap.layer,
                "tau": tau,
                "strength": strength,
                "ratio": ratio,
                "words": list(words),
            },
            {"prototypes": tap.prototypes, **{k: v for k, v in means.items() if v is not None}},
            {
                **provenance(vlm, data, seed),
                "tokens_of_words": {w: len(word_tokens(vlm.tokenizer, w)) for w in words},
                "calibration": {
                    "pictures": len(pool),
                    "visual_tokens": len(tap.best),
                    "realised_ratio": float((tap.best > tau).float().mean()),
                },
                "candidates": tried,
            },
        )

    def read(self, stored: Stored, config: RAIConfig) -> RAIFitted:
        """Where to act, from which threshold on, how strongly and with which vectors."""
        width = stored.vlm.hidden_size
        embedded = stored.artifact.fitted.get("layer") == "embed"
        return RAIFitted(
            "embed" if embedded else stored.layer(),
            stored.number("tau"),
            stored.number("strength"),
            stored.tensor("prototypes", None, width),
            stored.optional_tensor("token_mean", width),
            stored.optional_tensor("word_mean", width),
        )

    def parts(self, vlm: VLM, config: RAIConfig, fitted: RAIFitted) -> Parts:
        """The injection around a generation."""
        injection = injection_of(config, fitted)
        return Parts(around=partial(generate_shifted, vlm, injection.site, injection.shift))
