"""Who can reach the page, and how it is served.

By default only this machine can: the page listens on the loopback address. Under any other address
it asks for a password, which comes from the environment, where it is in no list of processes.
Uploads go to a folder of this process alone, which is deleted with it. The page is served by
uvicorn, from a socket that was opened before the model was loaded.
"""

from __future__ import annotations

import hmac
import ipaddress
import os
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from safesight.app.asking import Asker
from safesight.app.drawing import page_file
from safesight.app.examples import examples_for
from safesight.app.forms import Forms
from safesight.app.guard import MAX_UPLOAD, Guard
from safesight.app.page import STYLE, build_page, theme
from safesight.errors import InputError

if TYPE_CHECKING:
    from uvicorn import Server

__all__ = ["PASSWORD", "is_local", "password_for", "server"]

PASSWORD = "SAFESIGHT_APP_PASSWORD"
"""The environment variable with the password."""
_SHORTEST = 8
_MAX_FILE = 20_000_000
"""Bytes of one picture file."""
_WORDS = {"upload_text.drop_gallery": "Drop pictures here", "common.complete": "Complete"}
"""In place of Gradio's own words, of which the second is missing."""
_FOLDER = "GRADIO_TEMP_DIR"
_LEAVE = 3
"""Seconds that open requests have when the server ends."""


def is_local(door: socket.socket) -> bool:
    """Whether only this machine can reach a socket."""
    return ipaddress.ip_address(door.getsockname()[0]).is_loopback


def password_for(local: bool) -> str | None:
    """The password of the environment; None if there is none and none is needed.

    Raises:
        InputError: it is missing or short.
    """
    word = os.environ.get(PASSWORD)
    if word is None and local:
        return None
    if word is None:
        raise InputError(
            "Others could reach the page under this --host. Set a password in the environment "
            f"variable {PASSWORD}, or leave --host out."
        )
    if len(word) < _SHORTEST:
        raise InputError(
            f"The password in {PASSWORD} is short. Use at least {_SHORTEST} characters."
        )
    return word


@contextmanager
def server(
    asker: Asker, chosen: Sequence[str], *, local: bool, password: str | None
) -> Iterator[Server]:
    """The page as a server; call its `run` with a socket. Uploads are deleted at the end.

    Args:
        asker: Answers the questions.
        chosen: The defenses that are chosen at first.
        local: Whether the page is for this machine alone.
        password: What visitors have to know; None for nothing.
    """
    import gradio as gr
    import uvicorn
    from fastapi import FastAPI

    def knows(_: str, word: str) -> bool:
        assert password is not None
        return hmac.compare_digest(word.encode(), password.encode())

    with _own_folder() as folder:
        examples = examples_for(asker.host.vlm.name)
        page = build_page(asker, chosen, examples)
        called = {index: each for index, each in page.fns.items() if each.fn is not None}
        inputs = {index: len(each.inputs) for index, each in called.items()}
        forms = Forms(inputs, asker.arms, len(examples))
        app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
        gr.mount_gradio_app(
            app,
            page,
            path="/",
            footer_links=[],
            run_history=False,
            auth=None if password is None else knows,
            auth_message="Any user name, and the password of this page. After ten wrong ones, wait "
            "a minute.",
            show_error=False,
            max_file_size=min(_MAX_FILE, MAX_UPLOAD),
            ssr_mode=False,
            enable_monitoring=False,
            pwa=False,
            i18n=gr.I18n(en=_WORDS),
            mcp_server=False,
            theme=theme(),
            css=page_file(STYLE),
        )
        config = uvicorn.Config(
            Guard(app, folder, local, forms.known),
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_LEAVE,
        )
        yield uvicorn.Server(config)


@contextmanager
def _own_folder() -> Iterator[Path]:
    """A folder for uploads that goes with this process; Gradio finds it in the environment."""
    before = os.environ.get(_FOLDER)
    with tempfile.TemporaryDirectory(prefix="safesight-app-") as name:
        os.environ[_FOLDER] = name
        try:
            yield Path(name)
        finally:
            if before is None:
                del os.environ[_FOLDER]
            else:
                os.environ[_FOLDER] = before
