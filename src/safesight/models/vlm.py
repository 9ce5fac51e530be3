"""VLM: one way to load, query and look inside any Hugging Face vision-language model.

It holds a `transformers` model and its processor and changes neither. `families` knows where the
parts of an architecture are. Defenses know this class and nothing about architectures.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import BatchFeature

from safesight.errors import InputError, ModelError
from safesight.models.control_tokens import ControlTokens, control_tokens
from safesight.models.decoding import GREEDY, draws, ending, explicit, one_answer
from safesight.models.families import Family, family_of
from safesight.models.identity import WeightsHash, hash_config
from safesight.models.loading import LoadOptions, load_pretrained, public_name
from safesight.models.pictures import clean_messages
from safesight.models.prompt_checks import (
    answer_length,
    check_length,
    check_pictures,
    check_vocabulary,
    context_length,
)
from safesight.models.template_checks import check_template
from safesight.models.template_turns import TEMPLATE_ERRORS, template_turns
from safesight.models.wrappers import input_device, unwrapped
from safesight.tools import ToolSetup, setup_for
from safesight.types import Messages, begins_answer

__all__ = ["VLM"]


class VLM:
    """A vision-language model with its processor.

    Rows of a batch are padded on the left, so position -1 is the last prompt token of every row.

    Example:
        >>> vlm = VLM.load("testbed")
        >>> inputs = vlm.encode([[{"role": "user", "content": "hello"}]])
        >>> vlm.image_mask(inputs).any().item()
        False
    """

    def __init__(
        self, model: Any, processor: Any, name: str | None = None, revision: str | None = None
    ) -> None:
        self.model = model = unwrapped(model)
        self.processor = _ready(processor)
        given = name or getattr(model.config, "_name_or_path", "") or type(model).__name__
        self.name = public_name(given)
        self.revision = revision
        self.family: Family = family_of(model)
        self.layers: nn.ModuleList = self._part("layers")
        self.embed_tokens: nn.Module = self._part("embed")
        self.final_norm: nn.Module = self._part("norm")
        self.lm_head: nn.Module = self._part("head")
        self._weights = WeightsHash(model)
        """The state of the adapters and the hash of the weights with it."""

    @classmethod
    def load(
        cls,
        name: str = "testbed",
        *,
        device: str | None = None,
        device_map: Any = None,
        dtype: str | torch.dtype | None = None,
        quantization_config: Any = None,
        attn_implementation: str | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
        trust_remote_code: bool = False,
        **kwargs: Any,
    ) -> VLM:
        """Load a bundled model ("testbed"), a local folder, or a hub model.

        Args:
            name: A bundled name, a folder, or a hub id such as "org/model".
            device: "cpu", "cuda", "cuda:1"; None uses a GPU if there is one.
            device_map: Instead of `device`, to spread a model over devices or offload it: "auto",
                or a mapping from modules to devices, "cpu" and "disk".
            dtype: Weight type; None means float32 on a CPU and the checkpoint's own on a GPU.
            quantization_config: "int8" or "int4" (quanto), or a config of `transformers`.
            attn_implementation: "eager", "sdpa", "flash_attention_2"; None: as transformers has it.
            token: For gated models; None uses the one of `hf auth login` or of HF_TOKEN.
            revision: Branch, tag or commit of a hub model.
            trust_remote_code: Run code that comes with the checkpoint.
            kwargs: More for `from_pretrained`, such as `max_memory` and `offload_folder`.

        Raises:
            ModelError: the weights are missing, damaged, pickled or incomplete; the model takes no
                pictures, has no chat template or needs trust_remote_code; or options do not agree.
            MissingExtraError: accelerate or quanto is needed and not installed.
        """
        options = LoadOptions(
            device=device,
            device_map=device_map,
            dtype=dtype,
            quantization_config=quantization_config,
            attn_implementation=attn_implementation,
            token=token,
            revision=revision,
            trust_remote_code=trust_remote_code,
            more=kwargs,
        )
        loaded = load_pretrained(str(name), options)
        return cls(loaded.model, loaded.processor, loaded.name, loaded.revision)

    @classmethod
    def wrap(cls, model: Any, processor: Any, name: str | None = None) -> VLM:
        """Use a `transformers` model and processor that are already in memory.

        The model may be sharded, offloaded or quantized. Of a PEFT model, `vlm.model` is the
        `transformers` model inside, with its adapters.

        Raises:
            ModelError: the parts of the architecture cannot be found, there is no chat
                template, or an adapter adds tokens to the prompt.
        """
        return cls(model, processor, name, getattr(model.config, "_commit_hash", None))

    def __repr__(self) -> str:
        return f"VLM({self.name!r}, {self.family.name}, {self.num_layers} layers, {self.dtype})"

    @property
    def weights_hash(self) -> str:
        """Hex hash of the weights, in any dtype; not of what a defense puts in their place."""
        return self._weights.hash

    def same_identity(self, other: Collection[str] = ()) -> AbstractContextManager[None]:
        """Inside, weights of these names have other values, and their own again afterwards."""
        return self._weights.kept(other)

    @property
    def has_other_weights(self) -> bool:
        """Whether other weights stand in for the model's own; see `same_identity`."""
        return self._weights.keeping

    @property
    def identity(self) -> str:
        """Hex hash of config, weights and dtype; artifacts are tied to it."""
        parts = (hash_config(self.model.config), self.weights_hash, str(self.dtype))
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights."""
        return cast(torch.dtype, self.model.dtype)

    @property
    def device(self) -> torch.device:
        """The device for inputs."""
        return input_device(self.model, self.embed_tokens)

    @property
    def num_layers(self) -> int:
        """The number of decoder blocks."""
        return len(self.layers)

    @property
    def hidden_size(self) -> int:
        """Width d of the hidden states."""
        return cast(int, self._text_config.hidden_size)

    @property
    def vocab_size(self) -> int:
        """The size of the logits."""
        return cast(int, self._text_config.vocab_size)

    @property
    def tokenizer(self) -> Any:
        """The processor's tokenizer."""
        return self.processor.tokenizer

    @property
    def image_token_id(self) -> int:
        """The id of the placeholder for one visual token."""
        return cast(int, getattr(self.model.config, self.family.image_token))

    @cached_property
    def control_tokens(self) -> ControlTokens:
        """The tokens that text must not spell out; `encode` sees to that."""
        return control_tokens(self.processor, self.image_token_id)

    def tool_setup(self, **fields: Any) -> ToolSetup:
        """How image tools are offered to this model; `fields`: `format` or those of `ToolSetup`."""
        family, template = self.family, self.processor.chat_template
        return setup_for(family.tools, family.tool_boxes, template, **fields)

    def encode(
        self,
        batch: Sequence[Messages],
        *,
        add_generation_prompt: bool = True,
        continue_answer: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tags: Sequence[str] = (),
    ) -> BatchFeature:
        """Turn conversations into model inputs on the model's device, padded on the left.

        Rows may hold no picture, one or several, in any mixture. Text that spells out a control
        token gets a space into it.

        Args:
            batch: One conversation per row; see `safesight.types.Message`.
            add_generation_prompt: End each row where the answer begins.
            continue_answer: End each row at the end of its last turn, the assistant's, so that
                the model continues that answer. No generation prompt is added.
            tools: JSON schemas of tools for the chat template to offer, if it can.
            tags: Tags of tool calls that the users' text may hold, such as `<tool_response>`.

        Returns:
            `input_ids` and `attention_mask` of shape B x L, and the architecture's picture
            tensors.

        Raises:
            InputError: what the model, its processor or its chat template cannot take.
        """
        if not batch:
            raise InputError("The batch has no conversation. Add one.")
        rows = [self._cleaned(messages, tags) for messages in batch]
        if continue_answer and any(row[-1]["role"] != "assistant" for row in rows):
            raise InputError(
                "Only some of these conversations end with the start of an answer. "
                "Put those in one batch and the others in another."
            )
        offered = {} if tools is None else {"tools": self.control_tokens.cleaned(tools)}
        try:
            inputs = self.processor.apply_chat_template(
                [template_turns(self.processor, row, **offered) for row in rows],
                add_generation_prompt=add_generation_prompt and not continue_answer,
                continue_final_message=continue_answer,
                tokenize=True,
                return_dict=True,
                **offered,
                processor_kwargs={"padding": True, "padding_side": "left"},
                # Not in processor_kwargs: SmolVLM's processor overrides it with its own default.
                return_tensors="pt",
            )
        except TEMPLATE_ERRORS as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise InputError(
                f"{self.name!r} cannot take this conversation: {reason[0][:300]} "
                "Check its roles, its pictures and any special tokens in its text."
            ) from error
        check_length(self.name, self.context_length, inputs["input_ids"].shape[1])
        check_pictures(self.name, self.image_mask(inputs), rows)
        return inputs.to(self.device, dtype=self.dtype)

    @property
    def context_length(self) -> int | None:
        """The longest sequence that the model was made for; None if its config does not say."""
        return context_length(self._text_config)

    def image_mask(self, inputs: Any) -> Tensor:
        """The positions of the visual tokens: bool, B x L, True at image placeholders."""
        ids: Tensor = inputs["input_ids"]
        return ids == self.image_token_id

    def generate(self, inputs: Any, **kwargs: Any) -> Tensor:
        """`model.generate` with any attached defense; full sequences, B x (L + new).

        One greedy answer per row unless the call asks otherwise, whatever the checkpoint says.

        Raises:
            InputError: prompt and answer may exceed the model's context.
            ModelError: the processor writes tokens that the model does not know.
        """
        if not kwargs.setdefault("do_sample", draws(kwargs)):
            kwargs = {**GREEDY, **kwargs}
        if kwargs.get("generation_config") is None:
            kwargs = {**one_answer(self.model), **kwargs}
        if self.model.generation_config.stop_strings is not None:
            kwargs.setdefault("tokenizer", self.tokenizer)
        kwargs.setdefault("pad_token_id", self.tokenizer.pad_token_id)
        with ending(kwargs.get("streamer")):
            ids, known = inputs["input_ids"], getattr(self.embed_tokens, "num_embeddings", None)
            check_vocabulary(self.name, ids, self.image_mask(inputs), known)
            longest = answer_length(kwargs, ids.shape[1])
            check_length(self.name, self.context_length, ids.shape[1], longest)
        return cast(Tensor, self.model.generate(**inputs, **explicit(kwargs)))

    def answer(
        self, batch: Sequence[Messages], *, max_new_tokens: int = 48, **kwargs: Any
    ) -> list[str]:
        """Answer a batch of conversations; one answer per row, without prompt and special tokens.

        If the last turn is the assistant's, the answer continues it and does not repeat it.

        Args:
            batch: As for `encode`; either all of them end with the start of an answer, or none.
            max_new_tokens: The maximum length of an answer.
            kwargs: Further arguments for `generate`.

        Raises:
            InputError: as for `encode`.
        """
        inputs = self.encode(batch, continue_answer=any(map(begins_answer, batch)))
        sequences = self.generate(inputs, max_new_tokens=max_new_tokens, **kwargs)
        return self.decode(sequences, inputs["input_ids"].shape[1])

    def decode(self, sequences: Tensor, prompt_length: int) -> list[str]:
        """The text after the prompt in every row of B x (L + new), without special tokens."""
        texts = self.tokenizer.batch_decode(sequences[:, prompt_length:], skip_special_tokens=True)
        return [text.strip() for text in texts]

    def logits_of(self, hidden: Tensor) -> Tensor:
        """The logits for `resid_post` states: ... x d to ... x vocabulary.

        Applies the final norm, the head, and the soft cap that some families put after it.
        """
        logits: Tensor = self.lm_head(self.final_norm(hidden.to(self.dtype)))
        if (cap := self._logit_cap) is not None:
            logits = torch.tanh(logits / cap) * cap
        return logits

    @property
    def num_heads(self) -> int:
        """The number of attention heads in a decoder block."""
        return cast(int, self._text_config.num_attention_heads)

    def attention_out(self, layer: int) -> nn.Module | None:
        """The projection whose input is the concatenated heads of block `layer`.

        None for a block without attention, such as a convolution.

        Raises:
            ModelError: no block has such a projection where the table of families says.
        """
        path = self.family.attention_out
        found = [_module_at(block, path) for block in self.layers]
        if all(each is None for each in found):
            raise ModelError(
                f"The attention heads of {self.name!r} cannot be separated: no decoder block has a "
                f"projection at {path!r}. Everything that does not need single heads still works."
            )
        return found[layer]

    def _cleaned(self, messages: Messages, tags: Sequence[str]) -> list[dict[str, Any]]:
        conversation = clean_messages(messages)
        self.control_tokens.clean(conversation, tags)
        check_template(self.processor, conversation, self.control_tokens.special)
        return conversation

    @property
    def _logit_cap(self) -> float | None:
        name = self.family.logit_cap
        # PaliGemma has one in version 2 only.
        return getattr(self._text_config, name, None) if name else None

    @property
    def _text_config(self) -> Any:
        return self.model.config.get_text_config(decoder=True)

    def _part(self, name: str) -> Any:
        return self.family.part(self.model, name)


def _module_at(block: nn.Module, path: str) -> nn.Module | None:
    try:
        return block.get_submodule(path)
    except AttributeError:
        return None


def _ready(processor: Any) -> Any:
    """The processor itself, or a copy with a padding token if it has none.

    Raises:
        ModelError: it has no tokenizer or no chat template.
    """
    tokenizer = getattr(processor, "tokenizer", None)
    if tokenizer is None or getattr(processor, "image_processor", None) is None:
        raise ModelError(
            f"{type(processor).__name__} is not a processor for pictures and text. "
            "Load it with transformers.AutoProcessor."
        )
    if not getattr(processor, "chat_template", None):
        raise ModelError(
            "This model has no chat template, so it cannot take conversations. Use its "
            "instruction-tuned version, or put a chat_template.jinja that takes pictures into "
            "its folder."
        )
    if tokenizer.pad_token_id is not None:
        return processor
    ours = copy.copy(processor)
    ours.tokenizer = copy.deepcopy(tokenizer)
    ours.tokenizer.pad_token = tokenizer.eos_token
    return ours
