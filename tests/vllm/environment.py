"""Makes torchvision from PyPI load beside a CPU build of torch; run once in vLLM's environment.

vLLM imports torchvision for its processors of pictures. The one on PyPI is built for another torch:
its compiled operators are missing, and the module that describes them to `torch.compile` fails.
Nothing here uses them, so the descriptions are emptied.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

EMPTY = '"""Empty: the compiled operators of this torchvision are for another torch."""\n'


def main() -> None:
    """Empty the module, if torchvision does not load as it is."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        found = find_spec("torchvision")
        assert found is not None
        assert found.origin is not None
        (Path(found.origin).parent / "_meta_registrations.py").write_text(EMPTY)


if __name__ == "__main__":
    main()
