"""What every test run shares: no network, no writing outside a temporary home, few threads.

The environment is set when this file is imported, before any library reads it. Slow
tests are skipped unless `--runslow` is given.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import signal
import tempfile
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

_HOME = tempfile.TemporaryDirectory(prefix="safesight-tests-")
_HEADER = ("torch", "transformers", "inspect-ai", "scikit-learn")


def _isolate(home: Path) -> None:
    """Point every cache and data folder at `home`; model hubs are out of reach."""
    os.environ.update(
        HOME=str(home),
        XDG_DATA_HOME=str(home / "data"),
        XDG_CACHE_HOME=str(home / "cache"),
        XDG_CONFIG_HOME=str(home / "config"),
        XDG_STATE_HOME=str(home / "state"),
        HF_HOME=str(home / "huggingface"),
        HF_HUB_OFFLINE="1",
        HF_DATASETS_OFFLINE="1",
        TRANSFORMERS_OFFLINE="1",
        INSPECT_CACHE_DIR=str(home / "inspect"),
        INSPECT_DISPLAY="none",
        TOKENIZERS_PARALLELISM="false",
    )
    # A log folder or level of the person who runs the tests must not reach them.
    for name in ("INSPECT_LOG_DIR", "INSPECT_LOG_LEVEL", "INSPECT_EVAL_MODEL", "HF_TOKEN"):
        os.environ.pop(name, None)
    # Workers side by side have a core each.
    alone = os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1") == "1"
    os.environ["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", "2") if alone else "1"


_isolate(Path(_HOME.name))
# Inspect looks through all installed packages for each task, which takes half a second.
importlib.metadata.packages_distributions = cache(importlib.metadata.packages_distributions)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--runslow", action="store_true", help="run the tests marked slow, too")


def pytest_report_header() -> list[str]:
    return [
        f"python {platform.python_version()}, OMP_NUM_THREADS={os.environ['OMP_NUM_THREADS']}",
        ", ".join(f"{name} {_version(name)}" for name in _HEADER),
    ]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--runslow"):
        return
    skip = pytest.mark.skip(reason="slow; run with --runslow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


def pytest_unconfigure() -> None:
    _HOME.cleanup()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def pytest_configure() -> None:
    """Heed signals again that the shell has ignored, as it does for a job in the background.

    Tests send them, to this process and to programs that inherit what is ignored.
    """
    for number, handler in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGHUP, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)
