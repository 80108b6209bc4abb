"""Finds a checkpoint: a local directory, or an id on the Hugging Face hub."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from helix_cli.errors import ModelError, first_line

CONFIGS = ("config.json", "generation_config.json")
FILES = ("*.json", "*.safetensors", "*.jinja", "tokenizer*", "*.model", "merges.txt", "vocab.txt")
# The same weights again, in another layout or for another runtime.
DUPLICATES = ("*/*", "consolidated*")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@.+)?")


def resolve(name: str, revision: str | None = None, files: Sequence[str] = FILES) -> Path:
    """The directory of a checkpoint: `name` itself, or the snapshot of the hub's `org/name[@revision]`.

    Of the hub's, `files` are there at least. The download goes through huggingface_hub, with its cache, its progress
    bars and HF_HUB_OFFLINE. Raises ModelError.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise ModelError(f"{name} is a file, not a model directory.", "Point to the directory that holds config.json.")
    if not _HUB_ID.fullmatch(name) or name.startswith("."):
        raise ModelError(f"There is no model directory {name}.", "Check the path, or give a hub id such as org/name.")
    repository, _, named = name.partition("@")
    return _download(repository, named or revision, files)


def _download(repository: str, revision: str | None, files: Sequence[str]) -> Path:
    from huggingface_hub import errors, snapshot_download

    asked = f"{repository}@{revision}" if revision else repository
    try:
        return Path(
            snapshot_download(
                repository, revision=revision, allow_patterns=list(files), ignore_patterns=list(DUPLICATES)
            )
        )
    except errors.GatedRepoError as error:
        raise ModelError(
            f"The hub gives {asked} only to those who accepted its terms.",
            "Accept them on its page and log in with `hf auth login`.",
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ModelError(
            f"{repository} has no revision {revision} on the hub.", "Name a branch, tag or commit."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelError(
            f"{repository} is neither a directory here nor a model that the hub shows you.",
            "Check the spelling; a private one needs `hf auth login`.",
        ) from error
    except errors.LocalEntryNotFoundError as error:
        raise ModelError(
            f"{asked} is not in the local cache, and the hub cannot be reached.",
            "Check the network and HF_HUB_OFFLINE, or give a local directory.",
        ) from error
    except errors.HFValidationError as error:
        raise ModelError(f"{asked} is not a valid hub id.", "Write it as org/name or org/name@revision.") from error
    except (errors.HfHubHTTPError, OSError) as error:
        raise ModelError(
            f"Downloading {asked} failed: {first_line(error)}.", "Try again; what was fetched is kept."
        ) from error
