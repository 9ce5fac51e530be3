"""What `safesight serve --engine vllm` takes of the command line."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safesight.cli.stopping import stopped_by
from safesight.console import stderr, waiting
from safesight.errors import InputError, StorageError, reason_of
from safesight.grammar import UNDEFENDED

if TYPE_CHECKING:
    import typer

    from safesight.vllm.command import Serving
    from safesight.vllm.wanted import Wanted

__all__ = ["serve_with_vllm"]

_TAKEN = {
    "allow",
    "allow_image_host",
    "api_key_file",
    "batch_size",
    "chat_template",
    "decision_log",
    "defense",
    "dtype",
    "engine",
    "host",
    "max_pictures",
    "max_tokens",
    "model",
    "name",
    "port",
    "revision",
    "trust_remote_code",
    "vllm_options",
}
"""Parameters of the command that mean the same with vLLM."""


def serve_with_vllm(
    ctx: typer.Context,
    folders: Mapping[str, Path | None],
    keys: Callable[[], tuple[str, ...]],
) -> None:
    """Check everything that can be checked, then serve.

    Args:
        ctx: The command as it was called.
        folders: The defenses, and the folders of their artifacts.
        keys: Reads the API keys.

    Raises:
        SafesightError: something cannot be served so.
    """
    from safesight.hosting.beside import note_on_detectors
    from safesight.vllm.command import need_engine, run
    from safesight.vllm.stopping import Stopped

    _refuse_others(ctx)
    need_engine()
    with waiting("Checking the defenses"):
        from safesight.vllm.wanted import wanted_of

        wanted = wanted_of(folders, ctx.params["model"])
        serving = _serving(ctx.params, wanted, keys())
    with tempfile.TemporaryDirectory(prefix="safesight-") as folder:
        serving = _with_template(serving, wanted, ctx.params, Path(folder))
        defended = " + ".join(folders) or "no defense"
        address = f"http://{serving.host}:{serving.port}/v1"

        def starting() -> None:
            if note := note_on_detectors(list(folders)):
                stderr().print(note)
            stderr().print(
                f"Starting vLLM for {serving.name} with {defended} at {address} (Ctrl+C stops).",
                soft_wrap=True,
            )

        try:
            run(serving, starting)
        except Stopped as stop:
            stopped_by(stop.number)
            raise


def _refuse_others(ctx: typer.Context) -> None:
    for parameter in ctx.command.params:
        source = ctx.get_parameter_source(str(parameter.name))
        given = source is not None and source.name not in ("DEFAULT", "DEFAULT_MAP")
        if given and parameter.name not in _TAKEN:
            raise InputError(
                f"{parameter.opts[0]} does not go with --engine vllm. Leave it out, or serve with "
                "transformers."
            )


def _serving(given: Mapping[str, Any], wanted: Wanted, keys: tuple[str, ...]) -> Serving:
    from safesight.hosting.ports import listening
    from safesight.models.loading import place_of, public_name
    from safesight.server.access import check_binding
    from safesight.vllm.command import Serving

    check_binding(given["host"], keys)
    if not given["port"]:
        raise InputError("vLLM does not say which port it took. Name one with --port.")
    listening(given["host"], given["port"]).close()
    return Serving(
        place_of(given["model"]),
        name=given["name"] or public_name(given["model"]),
        host=given["host"],
        port=given["port"],
        settings=wanted.settings(
            per_request=_per_request(given["allow"]), decision_log=_log(given["decision_log"])
        ),
        keys=keys,
        dtype=wanted.dtype(given["dtype"]),
        revision=given["revision"],
        trust_remote_code=given["trust_remote_code"],
        max_tokens=given["max_tokens"],
        max_pictures=given["max_pictures"],
        max_requests=given["batch_size"],
        image_hosts=_hosts(given["allow_image_host"] or []),
        more=tuple(given["vllm_options"] or ()),
    )


def _per_request(allow: str) -> bool:
    if not allow:
        return False
    if allow.strip() != UNDEFENDED:
        raise InputError(
            "With vLLM a request can turn all defenses off or none: --allow none, or leave it out."
        )
    return True


def _log(file: Path | None) -> Path | None:
    """The decision log, which the engine opens only once it has loaded the model."""
    if file is not None:
        from safesight.hosting.decision_log import DecisionLog

        DecisionLog(file).close()
    return file


def _hosts(given: list[str]) -> list[str]:
    """Hosts as vLLM compares them: by name alone."""
    from safesight.server.downloads import allowed_origins

    found = allowed_origins(given)
    for origin in found:
        if origin.scheme != "https" or origin.port != 443:
            raise InputError(
                f"vLLM allows a host, not {origin.scheme} or a port of it. Name {origin.host} "
                "alone, which allows all of them."
            )
    return [origin.host for origin in found]


def _with_template(
    serving: Serving, wanted: Wanted, given: Mapping[str, Any], folder: Path
) -> Serving:
    """With the chat template in a file, if it is not the model's own."""
    own: Path | None = given["chat_template"]
    text = None if own is None else _read(own)
    if wanted.before:
        from safesight.models.unweighted import load_unweighted

        vlm = load_unweighted(
            given["model"],
            revision=given["revision"],
            trust_remote_code=given["trust_remote_code"],
            template=text,
        )
        text = wanted.template(vlm)
    if text is None:
        return serving
    file = folder / "chat_template.jinja"
    file.write_text(text, encoding="utf-8")
    return replace(serving, chat_template=str(file), chat_only=bool(wanted.before))


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise StorageError(
            f"The chat template {file} could not be read ({reason_of(error)}). Check the file."
        ) from error
