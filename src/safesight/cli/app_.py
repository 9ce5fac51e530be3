"""`safesight app`: a page on which to ask a model about pictures, with and without defenses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from safesight import registry
from safesight.cli.options import Artifacts, Loading, Model, arms_of_option, loads_model
from safesight.cli.show import examples
from safesight.console import stderr, waiting
from safesight.errors import InputError
from safesight.extras import need
from safesight.grammar import UNDEFENDED

if TYPE_CHECKING:
    import socket

    from safesight.app.asking import Asker

__all__ = ["EXAMPLES", "serve_page"]

EXAMPLES = examples(
    "safesight app",
    "safesight app --defense sasa,safety_prompt+rai --port 8080",
    "safesight app --model ./my-model --artifact artifacts/sasa",
    "safesight app --host 0.0.0.0",
)


@loads_model
def serve_page(
    loading: Loading,
    model: Model = "testbed",
    defense: Annotated[
        str | None,
        typer.Option(
            help="Defenses that are chosen at first, comma-separated. Visitors can choose any that "
            "runs on the model. Default: sasa and rai, where they run."
        ),
    ] = None,
    artifact: Artifacts = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on. Any but this machine's own needs a password.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, help="Port to listen on; 0 for any free one.")] = 7860,
    max_new_tokens: Annotated[
        int, typer.Option(min=1, help="Maximum length of an answer, in tokens.")
    ] = 128,
    references: Annotated[
        int,
        typer.Option(
            min=0,
            help="Known requests per label that questions are compared with; 0 leaves out the "
            "curve of the layers.",
        ),
    ] = 24,
) -> None:
    """Serve a page on which to ask the model about pictures, with and without defenses.

    The page works without a network. Only this machine can reach it, unless --host says
    otherwise; then SAFESIGHT_APP_PASSWORD must hold a password.
    """
    wanted = None if defense is None else [n for n in arms_of_option(defense) if n != UNDEFENDED]
    need("gradio", "app", "The web app")
    from safesight.app.asking import MAX_DEFENSES
    from safesight.app.serving import is_local, password_for
    from safesight.hosting.ports import listening

    if len(wanted or ()) > MAX_DEFENSES:
        raise InputError(
            f"--defense names {len(wanted or ())} defenses, but visitors try at most "
            f"{MAX_DEFENSES} at once. Name fewer."
        )
    with listening(host, port) as door:
        password_for(is_local(door))  # a missing one is told before the model is loaded
        with waiting(f"Loading {model}"):
            from safesight.app.asking import Asker
            from safesight.app.choices import offered
            from safesight.hosting.hosts import host as host_of
            from safesight.workflows.artifacts import artifacts_of

            known = [*(wanted or ()), *registry.names("defense")]
            given = artifacts_of(artifact or [], known)
            served = host_of(model, **loading)
            arms, chosen = offered(served.vlm, wanted, given)
            own = Path(served.vlm.name)
            if own.is_dir() and own.name not in registry.names("model"):
                served.vlm.name = own.name  # visitors need not know the folder
            asker = Asker(served, arms, max_new_tokens=max_new_tokens, references=references)
        _run(asker, chosen, door)


def _run(asker: Asker, chosen: Sequence[str], door: socket.socket) -> None:
    """Serve until Ctrl-C."""
    from safesight.app.serving import is_local, password_for, server
    from safesight.hosting.ports import address_of

    local = is_local(door)
    with server(asker, chosen, local=local, password=password_for(local)) as serving:
        stderr().print(f"Open {address_of(door)} in a browser. Ctrl-C ends the page.")
        serving.run(sockets=[door])
