"""Files of a data set on the hub, downloaded once, at one revision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from safesight.errors import InputError

__all__ = ["downloaded", "reaching"]

INSTEAD = "get its files elsewhere and pass their folder"


def downloaded(
    repository: str, revision: str, patterns: Sequence[str], *, instead: str = INSTEAD
) -> Path:
    """The folder in the hub's cache that holds the files that match; missing ones are downloaded.

    Args:
        repository: A data set on the hub.
        revision: Its revision; empty for the newest.
        patterns: Which files, such as "data/test-*.parquet".
        instead: What to do if it cannot be reached, as the end of a sentence.

    Raises:
        InputError: it cannot be downloaded.
    """
    from huggingface_hub import snapshot_download

    with reaching(repository, instead):
        folder = snapshot_download(
            repository,
            repo_type="dataset",
            revision=revision or None,
            allow_patterns=list(patterns),
        )
    return Path(folder)


@contextmanager
def reaching(repository: str, instead: str = INSTEAD) -> Iterator[None]:
    """Say in a sentence why a data set of the hub cannot be downloaded.

    Raises:
        InputError: in place of the hub's own errors.
    """
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError

    try:
        yield
    except GatedRepoError as error:
        raise InputError(
            f"{repository} is gated. Accept the terms on its hub page, log in with "
            "`hf auth login`, and try again."
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise InputError(
            f"{repository} cannot be downloaded from the hub ({type(error).__name__}). Check the "
            f"network, or {instead}."
        ) from error
