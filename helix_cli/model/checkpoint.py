"""Finds a checkpoint and reads its tensors: a local directory or a hub id, safetensors only."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from helix_cli.errors import ModelError
from helix_cli.model.architecture import read_json

FILES = ["*.json", "*.safetensors", "*.jinja", "tokenizer.model", "*.txt"]


def resolve(name: str) -> Path:
    """The directory of a checkpoint: `name` itself, or the hub snapshot of `org/name[@revision]`. Raises ModelError."""
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    looks_local = name.startswith((".", "/", "~")) or name.count("/") != 1 or path.exists()
    if looks_local:
        raise ModelError(f"There is no model directory {name}.", "Check the path, or give a hub id such as org/name.")
    return _download(name)


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repository, _, revision = name.partition("@")
    try:
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=FILES))
    except (LocalEntryNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(
            f"{name} is neither a directory here nor could it be fetched: {reason}",
            "Check the name and the network; HF_HUB_OFFLINE=1 uses what is cached.",
        ) from None
    except (HfHubHTTPError, HFValidationError) as error:
        raise ModelError(f"The hub refused {name}: {str(error).splitlines()[0]}", "Check the name and access.") from None


class Checkpoint:
    """The tensors of a directory by name, read one at a time. A context manager."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._files: dict[str, Any] = {}
        self._where: dict[str, str] = {}
        self._used: set[str] = set()
        for file in self._list_files():
            handle = self._open(file)
            self._files[file] = handle
            self._where.update(dict.fromkeys(handle.keys(), file))

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.clear()

    def __contains__(self, name: str) -> bool:
        return name in self._where

    def read(self, name: str, *shape: int) -> Tensor:
        """One tensor, checked for its shape and for values that are not finite; raises ModelError."""
        if name not in self._where:
            raise ModelError(f"{self.directory} lacks the tensor {name}.", "Download the checkpoint again.")
        file = self._where[name]
        try:
            tensor: Tensor = self._files[file].get_tensor(name)
        except (SafetensorError, OSError, ValueError) as error:
            raise self._broken(file, error) from None
        if tuple(tensor.shape) != shape:
            raise ModelError(
                f"The tensor {name} is {list(tensor.shape)}, and config.json asks for {list(shape)}.",
                "The config and the weights belong to different models; download the checkpoint again.",
            )
        if not tensor.is_floating_point():
            raise ModelError(f"The tensor {name} holds {tensor.dtype}, not floats.", "Use an unquantised checkpoint.")
        # One pass and no temporary: the sum is finite exactly when no value is inf or NaN (float32 sums of weights
        # do not overflow), and a false alarm is settled by the slow test.
        if not torch.isfinite(tensor.sum(dtype=torch.float32)) and not torch.isfinite(tensor).all():
            raise ModelError(f"The tensor {name} holds values that are not finite.", "Download the checkpoint again.")
        return tensor

    def _list_files(self) -> list[str]:
        index = self.directory / "model.safetensors.index.json"
        if index.is_file():
            weight_map = read_json(index).get("weight_map")
            if not isinstance(weight_map, dict):
                raise ModelError(f"{index} has no weight_map.", "Download the checkpoint again.")
            return sorted(set(weight_map.values()))
        if (self.directory / "model.safetensors").is_file():
            return ["model.safetensors"]
        if any(self.directory.glob("*.bin")):
            raise ModelError(
                f"{self.directory} holds pickled weights only, and unpickling runs whatever code is in them.",
                "Convert the checkpoint to safetensors.",
            )
        raise ModelError(f"{self.directory} has no model.safetensors.", "Point to a complete model directory.")

    def _open(self, file: str) -> Any:
        if not (self.directory / file).is_file():
            raise ModelError(f"{self.directory} lacks {file}.", "Download the checkpoint again.")
        try:
            return safe_open(self.directory / file, framework="pt")
        except (SafetensorError, OSError, ValueError) as error:
            raise self._broken(file, error) from None

    def _broken(self, file: str, error: Exception) -> ModelError:
        return ModelError(f"{self.directory / file} is damaged: {error}.", "Download the checkpoint again.")
