"""RAI: adds risk words to the visual tokens that resemble them, once, in the prefill.

Paper: Wang, Chen, Xu, He, Jiang, Li; "Risk Awareness Injection" (RAI); ICML 2026;
https://arxiv.org/abs/2602.03402. Its claim: language models recognise unsafe content in
text, and visual input dilutes that signal; using unsafe words as prototypes and changing
the visual tokens near them restores it without any training. Only the paper's abstract and
opening could be read. The equations follow a third party's account; each default states its
source.

Where it acts: on visual tokens of the prompt, once, in the prefill, at the input of block 0
(or a block's output). Text tokens and decoding steps are unchanged, bit for bit. With h_v the
state of a visual token and u_k the embedding of the k-th unsafe word (code in `injection`):

    s_vk = cos(h_v, u_k)                                            (1)
    K_v  = { k : s_vk > tau }                                       (2)
    h'_v = h_v + gamma * sum over k in K_v of s_vk u_k / ||u_k||    (3)

gamma is the setting `strength`; 1 is the published formula. The prototypes are just stacked:
"subspace" is the paper's name for the stack, not an operation.

What is fitted: tau, such that a stated share of the visual tokens of a few hundred unlabelled
pictures passes; no training. If layer, ratio or strength is "auto", it is chosen on labelled
samples: the setting that refuses the most attacks with benign losses within a bound.

What it cannot do: it restores refusals, so a model that does not refuse the same request in
text has nothing to restore. Harm that no single visual token shows, and harm in text, get
through, and so does an attacker who moves pixels by gradient. Words and visual tokens
must share a space, which a projector provides only weakly. A video is refused with an error,
as its frames are not read.

Where we differ: the input of block 0 instead of its output, because the words live there; tau is
calibrated, as the paper states none; the search, `strength`, `norm_matched`, `centered`, `top_k`
and "contextual" prototypes are ours, and off by default.
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
"""Values that "auto" tries. The smallest ratio is the largest that a secondary source names. On the
bundled model the best ratio is inside this range, and strengths above 16 change little."""


def candidate_layers(num_layers: int, layer: Layer | Literal["auto"]) -> list[Layer]:
    """The layers that the fit tries, the preferred one first.

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
    """Mean visual token, d; None unless centered."""
    word_mean: Tensor | None


def injection_of(config: RAIConfig, fitted: RAIFitted) -> Injection:
    """The injection for these settings and fitted values; see `Defense.resolve`."""
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
    attacks = ("synonym",)
    paper = "Wang et al., Risk Awareness Injection, ICML 2026, arXiv 2602.03402"
    needs = frozenset({"activations"})
    fitted = True
    in_demo = True
    contract = Contract(
        zero={"strength": 0.0, "tau": -1.0},
        # An open gate and a strong push.
        fitted={"tau": -1.0, "strength": 16.0},
    )
    Config = RAIConfig

    def fit(self, vlm: VLM, data: FitData, *, seed: int = 0, progress: bool = True) -> Artifact:
        """Look up the words and set tau; choose every setting that is "auto".

        Labels are used only for "auto". The model is not changed.

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
        """The layer, threshold, strength and vectors."""
        width = stored.vlm.hidden_size
        embedded = stored.artifact.fitted.get("layer") == "embed"
        words = stored.artifact.fitted.get("words")
        if not isinstance(words, list | tuple) or not words:
            raise stored.error("does not hold 'words' as the words of its prototypes")
        return RAIFitted(
            "embed" if embedded else stored.layer(),
            stored.number("tau"),
            stored.number("strength"),
            stored.tensor("prototypes", len(words), width),
            stored.optional_tensor("token_mean", width),
            stored.optional_tensor("word_mean", width),
        )

    def parts(self, vlm: VLM, config: RAIConfig, fitted: RAIFitted) -> Parts:
        """The injection around a generation."""
        injection = injection_of(config, fitted)
        around = partial(generate_shifted, vlm, injection.site, injection.shift)
        return Parts(around=around, edit=injection.edit)
