"""Where each architecture keeps its parts: a table, and no logic beyond reading it.

A path is a chain of attribute names from the model object. Architectures that are not in the
table are looked up through the accessors that transformers models share (`get_decoder`,
`get_input_embeddings`, `get_output_embeddings`); the error names any part that cannot be found.
Importing this file does not load torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal

from safesight.errors import ModelError

__all__ = ["FAMILIES", "UNSUPPORTED", "Family", "family_of"]


@dataclass(frozen=True)
class Family:
    """One architecture, by the `model_type` of its config."""

    name: str
    decoder: str = "model.language_model"
    """The module that runs the decoder blocks."""
    layers: str = "layers"
    """The decoder blocks, relative to the decoder, as are the next two."""
    embed: str = "embed_tokens"
    norm: str = "norm"
    attention_out: str = "self_attn.o_proj"
    """Relative to a decoder block: the projection whose input is its concatenated heads."""
    head: str = "lm_head"
    """Relative to the model."""
    vision: str = "model.vision_tower"
    projector: str = "model.multi_modal_projector"
    image_token: str = "image_token_id"
    """The config attribute that holds the id of the image placeholder token."""
    logit_cap: str = ""
    """The text config's attribute for a tanh cap on logits, if the model applies one."""
    tools: Literal["nous", "plain"] = "plain"
    """How the model was taught to call tools; see `safesight.tools.formats`. A chat template
    that offers tools itself takes precedence."""
    tool_boxes: Literal["thousandths", "pixels"] = "thousandths"
    """The unit of boxes: thousandths of the picture's sides, or pixels."""
    packed: bool = False
    """Whether `pixel_values` is one entry for all pictures of a batch, so two cannot be joined."""
    note: str = ""

    def part(self, model: Any, name: str) -> Any:
        """The module called `name` ("decoder", "layers", "embed", "norm", "head", ...).

        Raises:
            ModelError: the model has no such part where the table says.

        Example:
            >>> from types import SimpleNamespace as N
            >>> FAMILIES["llava"].part(N(lm_head="head"), "head")
            'head'
        """
        path = getattr(self, name)
        if name in ("layers", "embed", "norm"):
            path = f"{self.decoder}.{path}" if self.decoder else path
        try:
            return attrgetter(path)(model)
        except AttributeError:
            raise ModelError(
                f"{type(model).__name__} (model type {self.name!r}) has no {name} at {path!r}. "
                "Its transformers version may differ from the one safesight was tested with."
            ) from None


_IN_VISUAL: dict[str, Any] = {"vision": "model.visual", "projector": "model.visual.merger"}
_IDEFICS: dict[str, Any] = {
    "decoder": "model.text_model",
    "vision": "model.vision_model",
    "projector": "model.connector",
}
_ALIGNER: dict[str, Any] = {"vision": "model.vision_model", "projector": "model.aligner"}
_TILES = "A picture becomes several tiles; how many depends on its size."
_NOUS: dict[str, Any] = {"tools": "nous"}
_NOUS_PIXELS: dict[str, Any] = {"tools": "nous", "tool_boxes": "pixels"}
_NEEDS_TORCHVISION = "Its image processor needs torchvision (`safesight[vision]`)."
_NATIVE = "How many image tokens there are follows from the picture's size."
_DEEPSTACK = "Adds visual features between the first decoder blocks (DeepStack)."
_LINEAR = "Mixes full and linear attention."

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family("llava"),
        Family("llava_next", note=_TILES),
        Family("llava_onevision", note="In vLLM one picture in a prompt."),
        Family("vipllava"),
        Family("got_ocr2"),
        Family("internvl", note=_TILES),
        # Its config has a soft cap, but this transformers class does not apply it.
        Family(
            "gemma3",
            note="Image tokens attend to each other in both directions. In vLLM on a CPU no "
            "pictures.",
        ),
        Family(
            "paligemma",
            logit_cap="final_logit_softcapping",
            note="The prompt attends to itself in both directions. Its processor takes no row "
            "without a picture.",
        ),
        Family("mistral3", note=_NATIVE),
        Family(
            "gemma4",
            projector="model.embed_vision",
            logit_cap="final_logit_softcapping",
            note="The last blocks of E2B and E4B share keys and values; in a generation they run "
            "on the last prompt token alone.",
        ),
        Family("cohere2_vision", note=_NEEDS_TORCHVISION),
        Family("aria"),
        Family("molmo2", note=_NEEDS_TORCHVISION),
        Family(
            "llama4",
            decoder="language_model.model",
            head="language_model.lm_head",
            vision="vision_model",
            projector="multi_modal_projector",
            image_token="image_token_index",
            note=_NEEDS_TORCHVISION,
        ),
        Family("kimi_k25", projector="model.mm_projector", note=_NEEDS_TORCHVISION),
        Family("minicpmv4_6", projector="model.merger", packed=True, note=_LINEAR),
        Family(
            "lfm2_vl",
            norm="embedding_norm",
            attention_out="self_attn.out_proj",
            note=f"Mixes attention and convolution blocks. {_NEEDS_TORCHVISION}",
        ),
        Family("idefics2", **_IDEFICS),
        Family("idefics3", **_IDEFICS),
        Family("smolvlm", **_IDEFICS),
        Family("deepseek_vl", **_ALIGNER),
        Family(
            "janus",
            **_ALIGNER,
            note="Its `generate` drops logits processors, so detectors and CoCA are refused.",
        ),
        Family("qwen2_vl", **_IN_VISUAL, **_NOUS_PIXELS, note=_NATIVE),
        Family("qwen2_5_vl", **_IN_VISUAL, **_NOUS_PIXELS, note=_NATIVE),
        Family("qwen3_vl", **_IN_VISUAL, **_NOUS, note=_DEEPSTACK),
        Family("qwen3_vl_moe", **_IN_VISUAL, **_NOUS, note=_DEEPSTACK),
        Family(
            "qwen3_omni_moe_thinker",
            **_IN_VISUAL,
            **_NOUS,
            note=f"The part of Qwen3-Omni that reads and writes. {_DEEPSTACK}",
        ),
        Family("qwen3_5", **_IN_VISUAL, **_NOUS, note=_LINEAR),
        Family("qwen3_5_moe", **_IN_VISUAL, **_NOUS, note=_LINEAR),
        Family("glm4v", **_IN_VISUAL),
        Family("glm4v_moe", **_IN_VISUAL, note="GLM-4.5V."),
        Family("glm46v", **_IN_VISUAL, note="GLM-4.6V."),
    )
}
"""docs/reference/models.md says which of them run the whole conformance suite; for the others only
the locations of their parts are tested."""


UNSUPPORTED: dict[str, str] = {
    "gemma3n": "keeps several states for every token (AltUp), where defenses read and change one",
    "mllama": "hands pictures to its decoder by cross-attention, so its prompts have no visual "
    "tokens, and a row without a picture skips blocks",
}
"""Architectures that were tried and cannot be used, and why."""


def family_of(model: Any) -> Family:
    """The table entry of a model, or one built from the accessors that transformers models share.

    Raises:
        ModelError: the architecture is known not to work, or a part is found neither in the table
            nor by the accessors; the message says what.
    """
    model_type = model.config.model_type
    if model_type in UNSUPPORTED:
        raise ModelError(
            f"{type(model).__name__} (model type {model_type!r}) cannot be used: it "
            f"{UNSUPPORTED[model_type]}. Choose a model from docs/reference/models.md."
        )
    if model_type in FAMILIES:
        return FAMILIES[model_type]
    decoder = model.get_decoder()
    for _ in range(2):  # a causal language model adds one more wrapper around its decoder
        if not hasattr(decoder, "layers") and hasattr(decoder, "model"):
            decoder = decoder.model
    found = {
        "decoder": _path_of(model, decoder) if hasattr(decoder, "layers") else None,
        "embed": _path_of(decoder, model.get_input_embeddings()),
        "head": _path_of(model, model.get_output_embeddings()),
        "norm": _first_of(decoder, "norm", "final_layer_norm", "ln_f", "embedding_norm"),
        "image_token": _first_of(model.config, "image_token_id", "image_token_index"),
    }
    missing = [name for name, path in found.items() if path is None]
    if missing:
        raise ModelError(
            f"{type(model).__name__} (model type {model_type!r}) is not in safesight's table of "
            f"families, and its {' and '.join(missing)} cannot be found the usual way. "
            f"Known families: {', '.join(sorted(FAMILIES))}."
        )
    paths: dict[str, Any] = {name: path for name, path in found.items() if path is not None}
    return Family(model_type, **paths, vision="", projector="", note="Not in the table.")


def _first_of(owner: Any, *names: str) -> str | None:
    return next((name for name in names if getattr(owner, name, None) is not None), None)


def _path_of(root: Any, part: Any) -> str | None:
    """The attribute path from a module to one inside it."""
    return next((name for name, module in root.named_modules() if module is part), None)
