"""What computes the answers of an evaluation: transformers in this process, or vLLM."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from safesight import ranks
from safesight.console import waiting
from safesight.errors import InputError
from safesight.extras import need

if TYPE_CHECKING:
    from safesight.evals.endpoint import Endpoint
    from safesight.hosting.arms import Arm
    from safesight.models import VLM

__all__ = ["Engine", "identity_with"]


_SCRATCH = ".vllm-"
"""How the name of a folder begins that is there for as long as a run."""


@dataclass(frozen=True)
class Engine:
    """The choice of an engine."""

    name: Literal["transformers", "vllm"] = "transformers"
    base_url: str | None = None
    """A running server; None starts what the arms need."""
    options: Sequence[str] = ()
    """Further arguments of `vllm serve`."""

    def check(self) -> None:
        """Refuse what does not go together.

        Raises:
            InputError: an option is for another engine.
            SafesightError: the engine, or the client that asks it, is not installed, or no server
                answers.
        """
        if self.name == "transformers" and (self.base_url is not None or self.options):
            option = "--vllm-options" if self.base_url is None else "--base-url"
            raise InputError(f"{option} is for vLLM. Leave it out, or add --engine vllm.")
        if self.base_url is not None and self.options:
            raise InputError("A running server has its options. Leave out --vllm-options.")
        if self.name == "transformers":
            return
        if self.base_url is None and ranks.place().count > 1:
            raise InputError(
                "An evaluation with vLLM starts its servers from one process, so leave out "
                "torchrun or accelerate launch, or unset WORLD_SIZE."
            )
        need("inspect_ai", "eval", "An evaluation")
        from safesight.evals.endpoint import check_client
        from safesight.vllm.command import need_engine

        if self.base_url is None:
            need_engine()
        check_client()
        if self.base_url is not None:
            from safesight.vllm.remote import found_at

            found_at(self.base_url, _key())

    def loading(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """How to load the model here: on the CPU if the answers come from elsewhere."""
        kept = {"device", "device_map"} & given.keys()
        return dict(given) if self.name == "transformers" or kept else {**given, "device": "cpu"}

    @contextmanager
    def endpoints(
        self,
        vlm: VLM,
        arms: Sequence[Arm],
        folder: Path,
        loading: Mapping[str, Any],
        longest: int | None = None,
    ) -> Iterator[dict[str, Endpoint] | None]:
        """Inside, where each arm is answered; None for here.

        Args:
            vlm: The model.
            arms: The arms.
            folder: Where what servers need is put for as long, and what they print is kept.
            loading: As for `VLM.load`.
            longest: Tokens of the longest answer, if the evaluation says so.

        Raises:
            SafesightError: an arm cannot be answered so.
        """
        if self.name == "transformers":
            yield None
            return
        if self.base_url is not None:
            from safesight.vllm.remote import remote_endpoints

            yield remote_endpoints(vlm, self.base_url, _key(), arms)
            return
        from safesight.vllm.evaluating import local_endpoints

        with _scratch(folder) as place:
            with waiting("Preparing vLLM"):
                more = (self.options, longest)
                found = local_endpoints(vlm, arms, place, folder, loading, *more)
            yield found

    def remarks(self, endpoints: Mapping[str, Endpoint] | None) -> list[str]:
        """What a reader of the numbers should know."""
        if not endpoints:
            return []
        engine = next(iter(endpoints.values())).server.engine
        if self.base_url is None:
            return [f"The answers are those of {engine}."]
        return [
            f"The answers are those of {engine} at {self.base_url}. A few prompts were compared "
            "with the model here before the run, and the server says which defenses it has. "
            "Whether it answered every request with them cannot be checked from here."
        ]


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A folder of its own in another; those that killed runs have left there are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(f"{_SCRATCH}*"):
        if (held := _held(left)) is not None:
            shutil.rmtree(left, ignore_errors=True)
            held.close()
    with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=folder) as place:
        held = _held(Path(place))
        try:
            yield Path(place)
        finally:
            if held is not None:
                held.close()


def _held(place: Path) -> TextIO | None:
    """What keeps a folder ours until it is closed or we are gone; None if it is another's."""
    import fcntl

    try:
        file = (place / "lock").open("a")
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file


def _key() -> str:
    return os.environ.get("SAFESIGHT_API_KEY", "")


def identity_with(identity: str, endpoints: Mapping[str, Endpoint] | None) -> str:
    """The identity of a model whose answers may come from another engine.

    Example:
        >>> identity_with("abc", None)
        'abc'
    """
    if not endpoints:
        return identity
    engine = next(iter(endpoints.values())).server.engine
    return hashlib.sha256(f"{identity} {engine}".encode()).hexdigest()
