"""The versions of vLLM whose seams this plugin was tested on."""

from __future__ import annotations

from safesight.errors import ModelError

__all__ = ["VALIDATED", "check_version", "suffix"]

VALIDATED = ("0.32",)
"""Major and minor numbers; the suite of `make test-vllm` passes on them."""


def check_version(version: str, *, allowed: bool) -> None:
    """Refuse a version that was not tested.

    Args:
        version: Of vLLM.
        allowed: Whether the operator takes the risk.

    Raises:
        ModelError: it is not on the list.

    Example:
        >>> check_version("0.32.1", allowed=False)
    """
    if allowed or ".".join(version.split(".")[:2]) in VALIDATED:
        return
    raise ModelError(
        f"safesight's defenses were not tested on vLLM {version}, only on {', '.join(VALIDATED)}. "
        'Install one of these, or put "allow_unvalidated": true beside "defenses".'
    )


def suffix(version: str) -> str:
    """The end of the names of defended classes.

    vLLM keeps what it finds out about a class under the class's name and a hash of the file with
    the class, which is ours. So the name has to change with vLLM's version.

    Example:
        >>> suffix("0.32.1+cpu")
        '_0_32_1_cpu'
    """
    return "_" + "".join(each if each.isalnum() else "_" for each in version)
