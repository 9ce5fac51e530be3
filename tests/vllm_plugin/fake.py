"""A package `vllm` without an engine: what `safesight serve --engine vllm` calls, and no more.

It stands in where a test is about processes and messages. Its server runs the code it is given.
"""

from __future__ import annotations

from pathlib import Path

_FILES = {
    "vllm/v1/engine/utils.py": "zmq_socket_ctx = None",
    "vllm/engine/arg_utils.py": """
from types import SimpleNamespace

class AsyncEngineArgs:
    @staticmethod
    def from_cli_args(parsed):
        return SimpleNamespace(create_engine_config=lambda: None)
""",
    "vllm/entrypoints/launchers/cli_args.py": """
def make_arg_parser(parser):
    return parser

def validate_parsed_serve_args(parsed):
    pass
""",
    "vllm/entrypoints/serve/utils/api_utils.py": "def cli_env_setup(): pass",
    "vllm/utils/argparse_utils.py": """
from types import SimpleNamespace

class FlexibleArgumentParser:
    def __init__(self, prog):
        pass

    def parse_args(self, words):
        return SimpleNamespace(model_tag=words[0])
""",
}


def write(folder: Path, serving: str) -> str:
    """Write the package.

    Args:
        folder: Where it goes.
        serving: A module with a function `cmd`, which serves.

    Returns:
        What to put into PYTHONPATH.
    """
    served = f"{serving}\n\nclass ServeSubcommand:\n    cmd = staticmethod(cmd)\n"
    for name, text in {**_FILES, "vllm/entrypoints/cli/serve.py": served}.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        for above in file.relative_to(folder).parents[:-1]:
            (folder / above / "__init__.py").touch()
        file.write_text(text)
    return str(folder)
