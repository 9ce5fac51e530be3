"""`safesight serve`: an OpenAI-compatible server with the defenses on."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from safesight.cli.options import BatchSize, Loading, Model, check_names, loads_model
from safesight.cli.show import examples
from safesight.console import stderr, waiting
from safesight.errors import InputError, StorageError, reason_of
from safesight.extras import need
from safesight.grammar import UNDEFENDED

if TYPE_CHECKING:
    import socket

    from safesight.server.settings import ServerSettings

__all__ = ["EXAMPLES", "serve"]

EXAMPLES = examples(
    "safesight serve --defense probe",
    "safesight serve --model Qwen/Qwen3-VL-2B-Instruct --defense sasa=artifacts/sasa",
    "safesight serve --defense probe --allow probe,none --decision-log decisions.jsonl",
    "safesight serve --defense probe --host 0.0.0.0 --api-key-file keys.txt",
    "safesight serve --engine vllm --defense sasa=artifacts/sasa -- --max-model-len 4096",
)
KEY = "SAFESIGHT_API_KEY"

_LIMITS = "Limits"
_MORE_CONNECTIONS = 100
"""Connections that wait for nothing: those kept open, and those that ask for health or metrics."""

Defenses = Annotated[
    str,
    typer.Option(
        "--defense",
        metavar="NAME[=DIR],...",
        help="Defenses, all attached together, each with its artifact if it has one of its own; "
        "none for the bare model.",
    ),
]
Address = Annotated[str, typer.Option("--host", help="Address to listen on.")]
Port = Annotated[int, typer.Option(min=0, help="Port; 0 for any free one.")]
Name = Annotated[
    str | None, typer.Option(help="The model's name in requests. Default: that of --model.")
]
Allowed = Annotated[
    str,
    typer.Option(
        metavar="NAME,...",
        help="Defenses that a request may choose for itself; none lets it choose no defense.",
    ),
]
AllowThreshold = Annotated[
    bool, typer.Option("--allow-threshold", help="Let requests set a detector's threshold.")
]
KeyFile = Annotated[
    Path | None, typer.Option(help=f"File with API keys, one a line. Or set {KEY}.")
]
ImageHosts = Annotated[
    list[str] | None,
    typer.Option(metavar="HOST", help="Fetch pictures from this host; repeatable."),
]
LogFile = Annotated[
    Path | None, typer.Option(help="JSONL file for refusals: score, threshold, artifact.")
]
LogPrompts = Annotated[
    bool, typer.Option("--log-prompts", help="Write the texts of refused prompts, too.")
]
Engine = Annotated[Literal["transformers", "vllm"], typer.Option(help="What computes the answers.")]
ChatTemplate = Annotated[
    Path | None, typer.Option(help="With vLLM: a chat template in the place of the model's own.")
]
VllmArguments = Annotated[
    list[str] | None,
    typer.Argument(metavar="[-- OPTION...]", help="With vLLM: options of `vllm serve`."),
]


def _limit(text: str) -> Any:
    return typer.Option(help=text, min=1, rich_help_panel=_LIMITS)


MaxTokens = Annotated[int, _limit("Tokens of one answer.")]
MaxPictures = Annotated[int, _limit("Pictures in one request.")]
MaxPixels = Annotated[int, _limit("Pixels of one picture.")]
MaxBody = Annotated[int, _limit("Megabytes of one request.")]
MaxWaiting = Annotated[int, _limit("Answers that are waited for.")]
Timeout = Annotated[float, _limit("Seconds for one request.")]


@loads_model
def serve(
    ctx: typer.Context,
    loading: Loading,
    defense: Defenses,
    vllm_options: VllmArguments = None,
    engine: Engine = "transformers",
    model: Model = "testbed",
    host: Address = "127.0.0.1",
    port: Port = 8000,
    name: Name = None,
    allow: Allowed = "",
    allow_threshold: AllowThreshold = False,
    api_key_file: KeyFile = None,
    allow_image_host: ImageHosts = None,
    decision_log: LogFile = None,
    log_prompts: LogPrompts = False,
    batch_size: BatchSize = None,
    max_tokens: MaxTokens = 1024,
    max_pictures: MaxPictures = 8,
    max_pixels: MaxPixels = 24_000_000,
    max_body_mb: MaxBody = 20,
    max_waiting: MaxWaiting = 128,
    timeout: Timeout = 300.0,
    chat_template: ChatTemplate = None,
) -> None:
    """Serve a defended model to OpenAI clients, and its detectors to gateways."""
    if engine == "vllm":
        from safesight.cli.serve_vllm import serve_with_vllm

        serve_with_vllm(ctx, _defenses(defense), lambda: _keys(api_key_file))
        return
    for option in ["--chat-template"] if chat_template else vllm_options or []:
        raise InputError(f"{option} is for vLLM. Leave it out, or add --engine vllm.")
    need("fastapi", "serve", "A server")
    if not math.isfinite(timeout):
        raise InputError("--timeout is not a number of seconds. Use one such as 300.")
    if log_prompts and decision_log is None:
        raise InputError("--log-prompts writes to the decision log. Add --decision-log FILE.")
    folders = _defenses(defense)
    rules = _rules(
        name or model,
        keys=_keys(api_key_file),
        allowed=_allowed(allow),
        allow_threshold=allow_threshold,
        origins=allow_image_host or [],
        max_pixels=max_pixels,
        max_body=max_body_mb * 1_000_000,
        max_pictures=max_pictures,
        max_tokens=max_tokens,
        max_waiting=max_waiting,
        seconds=timeout,
    )
    with _door(host, port, rules, folders) as door:
        app = _app(model, loading, folders, rules, decision_log, log_prompts, batch_size)
        from safesight.server.running import run, server

        most = 4 * rules.limits.max_waiting + _MORE_CONNECTIONS
        serving = server(app, most_connections=most, grace=rules.limits.seconds)
        _say(door, rules, folders)
        run(serving, door)


def _defenses(text: str) -> dict[str, Path | None]:
    """Each defense and the folder of its artifact, in order."""
    found: dict[str, Path | None] = {}
    for item in text.replace("+", ",").split(","):
        name, given, folder = item.strip().partition("=")
        if not name or (given and not folder):
            raise InputError(
                f"--defense {text!r} is not a list of defenses. "
                "Write it like sasa=artifacts/sasa,rai, or none for the bare model."
            )
        if name in found:
            raise InputError(f"--defense names {name!r} twice. Name it once.")
        found[name] = Path(folder) if folder else None
    if UNDEFENDED in found and len(found) > 1:
        raise InputError("--defense none serves the bare model. Leave out the other defenses.")
    if found.get(UNDEFENDED) is not None:
        raise InputError(
            "--defense none serves the bare model, which takes no artifact. Name the defense "
            f"that {found[UNDEFENDED]} belongs to instead of none."
        )
    check_names("defense", list(found))
    found.pop(UNDEFENDED, None)
    return found


def _allowed(text: str) -> list[str]:
    found = [each.strip() for each in text.split(",") if each.strip()]
    if text and not found:
        raise InputError("--allow names no defense. Name some of those that are served, or none.")
    return found


def _keys(file: Path | None) -> tuple[str, ...]:
    from safesight.server.access import keys_of

    found: tuple[str, ...] = ()
    if file is not None:
        try:
            found += keys_of(file.read_text(), str(file))
        except (OSError, UnicodeError) as error:
            raise StorageError(
                f"The API keys in {file} could not be read ({reason_of(error)}). Check the file."
            ) from error
    if KEY in os.environ:
        found += keys_of(os.environ[KEY], KEY)
    return found


def _rules(
    name: str,
    *,
    keys: tuple[str, ...],
    allowed: list[str],
    allow_threshold: bool,
    origins: list[str],
    max_pixels: int,
    **limits: Any,
) -> ServerSettings:
    from safesight.server.downloads import allowed_origins
    from safesight.server.pictures import PictureRules
    from safesight.server.settings import Limits, ServerSettings

    pictures = PictureRules(
        origins=allowed_origins(origins),
        max_bytes=limits["max_body"],
        max_pixels=max_pixels,
    )
    return ServerSettings(
        name=name,
        limits=Limits(**limits),
        pictures=pictures,
        keys=keys,
        allowed=tuple(allowed),
        allow_threshold=allow_threshold,
    )


def _door(
    host: str, port: int, rules: ServerSettings, folders: dict[str, Path | None]
) -> socket.socket:
    from safesight.hosting.ports import listening
    from safesight.server.access import check_binding
    from safesight.server.choices import check_allowed

    check_allowed(list(folders), rules.allowed)
    check_binding(host, rules.keys)
    return listening(host, port)


def _app(
    model: str,
    loading: Loading,
    folders: dict[str, Path | None],
    rules: ServerSettings,
    decision_log: Path | None,
    log_prompts: bool,
    batch_size: int | None,
) -> Any:
    with waiting(f"Loading {model}"):
        from safesight.fitting.artifact import Artifact
        from safesight.hosting.decision_log import DecisionLog
        from safesight.hosting.hosts import host as host_of
        from safesight.server.app import ROUTES, create_app
        from safesight.server.choices import Choices
        from safesight.server.metrics import Metrics
        from safesight.server.record import Record

        given = {name: Artifact.load(place) for name, place in folders.items() if place}
        served = host_of(model, **loading)
        if batch_size is not None:
            served.batcher.max_batch = batch_size
        served.batcher.quiet, served.batcher.patience = 0.01, 2.0
        served.keep_attached = True
        choices = Choices(
            served.vlm,
            list(folders),
            given,
            allowed=rules.allowed,
            allow_threshold=rules.allow_threshold,
        )
        metrics = Metrics(ROUTES, choices.detectors)
        log = None
        if decision_log is not None:
            log = DecisionLog(decision_log, with_prompts=log_prompts, on_failure=metrics.log_failed)
    served.vlm.name = rules.name  # what clients are told, who need not know the folder
    record = Record(rules.name, metrics, log)
    return create_app(served, choices, rules, record, local=not rules.keys)


def _say(door: socket.socket, rules: ServerSettings, folders: dict[str, Path | None]) -> None:
    from safesight.hosting.beside import note_on_detectors
    from safesight.hosting.ports import address_of

    defended = " + ".join(folders) or "no defense"
    if note := note_on_detectors(list(folders)):
        stderr().print(note)
    stderr().print(f"Serving {rules.name} with {defended} at {address_of(door)}/v1 (Ctrl+C stops).")
