"""`safesight serve --engine vllm`: the arguments of `vllm serve`, checked, and then run.

vLLM runs in this process, as its own program would. What is set beside the arguments: the plugin
is among those that vLLM loads, requests pass `server.door` first, and the counters of the engine's
processes are shown in `/metrics`.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safesight.console import waiting
from safesight.errors import InputError, ModelError, reason_of
from safesight.extras import need
from safesight.vllm.causes import CAUSE
from safesight.vllm.parent import end_with_parent
from safesight.vllm.stopping import interrupts_kept, stopped_at_once

if TYPE_CHECKING:
    from safesight.vllm.settings import Settings

__all__ = ["Serving", "arguments", "check", "need_engine", "run", "surroundings"]

GROUP = "vllm.general_plugins"
NOWHERE = "nowhere.invalid"
"""A host that there cannot be (RFC 6761): without a list, vLLM fetches pictures from any."""

_SET = {
    "--model": "--model",
    "--host": "--host",
    "--port": "--port",
    "--served-model-name": "--name",
    "--api-key": "--api-key-file",
    "--dtype": "--dtype",
    "--revision": "--revision",
    "--max-num-seqs": "--batch-size",
    "--limit-mm-per-prompt": "--max-pictures",
    "--allowed-media-domains": "--allow-image-host",
    "--additional-config": "--defense",
    "--chat-template": "--chat-template",
}
"""Options of vLLM that one of `safesight serve` sets."""
_NEVER = (
    "--chat-template-content-format",
    "--config",
    "--grpc",
    "--headless",
    "--middleware",
    "--omni",
    "--override-generation-config",
    "--trust-request-chat-template",
    "--uds",
)
"""Those that would go past what is checked here."""
_SHORTEST = 4
"""Characters of the shortest beginning of an option that is taken for the whole."""


@dataclass(frozen=True)
class Serving:
    """What to serve, and to whom."""

    model: str
    """A folder, or a model of the hub."""
    name: str
    """Its name in requests."""
    host: str
    port: int
    settings: Settings | None = None
    """The defenses inside the engine; None for none."""
    chat_template: str | None = None
    """A file: the template with the defenses that rewrite prompts, or the operator's."""
    chat_only: bool = False
    """Whether a prompt has to pass that template."""
    keys: tuple[str, ...] = ()
    dtype: str | None = None
    revision: str | None = None
    trust_remote_code: bool = False
    max_tokens: int = 1024
    max_pictures: int = 8
    max_requests: int | None = None
    """In one batch; None for vLLM's own number."""
    image_hosts: Sequence[str] = ()
    more: Sequence[str] = field(default=())
    """Further arguments of `vllm serve`."""


def need_engine() -> None:
    """Check that vLLM is installed, and that it will find the plugin.

    Raises:
        MissingExtraError: it is not installed.
        ModelError: safesight was put in place in a way that vLLM does not see.
    """
    need("vllm", "vllm", "Serving with vLLM")
    if not any(each.name == "safesight" for each in entry_points(group=GROUP)):
        raise ModelError(
            "vLLM would not find safesight's plugin, so it would serve undefended. "
            "Install safesight with pip in the environment of vLLM."
        )


def arguments(serving: Serving) -> list[str]:
    """The arguments of `vllm serve`.

    Raises:
        InputError: one of `more` is set here, or goes past the checks.

    Example:
        >>> arguments(Serving("org/model", "mine", "127.0.0.1", 8000))[:3]
        ['org/model', '--served-model-name', 'mine']
    """
    _check_more(serving.more)
    given: dict[str, Any] = {
        "--served-model-name": serving.name,
        "--host": serving.host,
        "--port": serving.port,
        "--dtype": serving.dtype,
        "--revision": serving.revision,
        "--max-num-seqs": serving.max_requests,
        "--limit-mm-per-prompt": {"image": serving.max_pictures, "video": 0, "audio": 0},
        "--override-generation-config": {"max_new_tokens": serving.max_tokens},
        "--chat-template": serving.chat_template,
        "--middleware": "safesight.server.door.Door",
    }
    if serving.settings is not None:
        settings = serving.settings.model_dump(mode="json", exclude_none=True)
        given["--additional-config"] = {"safesight": settings}
    if serving.chat_template is not None:
        given["--chat-template-content-format"] = "openai"
    words = [serving.model]
    for option, value in given.items():
        if value is not None:
            words += [option, json.dumps(value) if isinstance(value, dict) else str(value)]
    words += ["--allowed-media-domains", *(serving.image_hosts or [NOWHERE])]
    words += ["--trust-remote-code"] if serving.trust_remote_code else []
    return [*words, *serving.more]


def surroundings(serving: Serving, before: Mapping[str, str]) -> dict[str, str]:
    """The variables of the environment that vLLM and the door read.

    Args:
        serving: What is served.
        before: The environment.
    """
    from safesight.server.door import CHAT_ONLY, KEYS

    # Redirects would lead to hosts that nobody listed; the other front end has no door.
    new = {"VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0", "VLLM_USE_RUST_FRONTEND": "0"}
    if serving.keys:
        new[KEYS] = "\n".join(serving.keys)
    if serving.chat_only:
        new[CHAT_ONLY] = "1"
    plugins = before.get("VLLM_PLUGINS")
    if plugins is not None and "safesight" not in plugins.split(","):
        new["VLLM_PLUGINS"] = ",".join([*filter(None, plugins.split(",")), "safesight"])
    return new


def check(serving: Serving) -> Any:
    """Make the engine's configuration, as vLLM will, with the plugin's own checks.

    Returns:
        The arguments as vLLM reads them.

    Raises:
        InputError: vLLM or the plugin refuses it.
        ModelError: there is no such model.
    """
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = make_arg_parser(FlexibleArgumentParser(prog="vllm serve"))
    parsed = parser.parse_args(arguments(serving))
    parsed.model = parsed.model_tag
    try:
        validate_parsed_serve_args(parsed)
        AsyncEngineArgs.from_cli_args(parsed).create_engine_config()
    except (ValueError, TypeError) as error:
        raise InputError(_said(error)) from error
    except OSError as error:
        raise _not_found(serving.model, error) from error
    return parsed


def run(serving: Serving, starting: Callable[[], None] = lambda: None) -> None:
    """Serve until the process is told to stop.

    Args:
        serving: What is served.
        starting: Called when everything is checked, before a process starts.

    Raises:
        InputError: vLLM or the plugin refuses the configuration, before any process starts.
        ModelError: there is no such model, or vLLM ended by itself, as it does if its engine does
            not start.
        Stopped: it was told to before it served.
    """
    surrounded = _placed(surroundings(serving, os.environ))
    end_with_parent()
    with surrounded, _scratch() as causes, stopped_at_once(), interrupts_kept():
        with waiting("Checking the engine"):
            from vllm.entrypoints.cli.serve import ServeSubcommand
            from vllm.entrypoints.serve.utils.api_utils import cli_env_setup

            cli_env_setup()
            parsed = check(serving)
        starting()
        try:
            ServeSubcommand.cmd(parsed)
        except RuntimeError as error:
            raise _ended(error, causes) from error


def _ended(error: RuntimeError, causes: Path) -> ModelError:
    """Why vLLM has ended: the last error of its processes, or else what it says itself."""
    found = causes.read_text(encoding="utf-8").splitlines() if causes.is_file() else []
    if found:
        return ModelError(f"vLLM has ended: {found[-1]}")
    return ModelError(f"vLLM has ended ({reason_of(error)}). What it printed before says why.")


def _not_found(model: str, error: OSError) -> ModelError:
    reason = reason_of(error)
    if Path(model).is_dir():
        return ModelError(
            f"The folder {model!r} cannot be used ({reason}). Check that it is complete."
        )
    return ModelError(
        f"{model!r} is neither a folder nor a model that can be downloaded ({reason}). "
        "Check the name and the network, or pass the folder of a downloaded model."
    )


def _check_more(more: Sequence[str]) -> None:
    for word in more:
        given = word.partition("=")[0].replace("_", "-").partition(".")[0]
        if not given.startswith("--") or len(given) < _SHORTEST:
            continue
        for option in (each for each in (*_SET, *_NEVER) if each.startswith(given)):
            if ours := _SET.get(option):
                raise InputError(f"{option} of vLLM is set by {ours} here. Use that.")
            raise InputError(
                f"{option} of vLLM goes past what safesight checks. Leave it out, or use vllm "
                "serve with --additional-config."
            )


def _said(error: Exception) -> str:
    """What an error of vLLM says, without the frame that pydantic puts around it."""
    errors = getattr(error, "errors", None)
    told = errors()[0]["msg"] if callable(errors) else str(error)
    return str(told).removeprefix("Value error, ").strip()


@contextmanager
def _placed(variables: Mapping[str, str]) -> Iterator[None]:
    """Inside, the environment has these variables."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _scratch() -> Iterator[Path]:
    """Inside, there are places where counters and errors of several processes meet.

    Yields:
        The file of their errors.
    """
    name = "PROMETHEUS_MULTIPROC_DIR"
    with tempfile.TemporaryDirectory(prefix="safesight-", ignore_cleanup_errors=True) as folder:
        counters = os.environ.get(name) or str(Path(folder) / "counters")
        Path(counters).mkdir(parents=True, exist_ok=True)
        causes = Path(folder) / "causes.txt"
        with _placed({name: counters, CAUSE: str(causes)}):
            yield causes
