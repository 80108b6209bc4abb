"""The tensors of a checkpoint directory, read by name and checked one at a time. Safetensors only: no pickle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from helix_cli.errors import ModelError
from helix_cli.model.fields import DOWNLOAD_AGAIN, UNRELATED, read_json

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
ITEM_BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "BF16": 2, "F16": 2, "I16": 2}
"""Bytes of a stored number; the types that are not here take one."""
_LFS_POINTER = b"version https://git-lfs"


class Weights:
    """Every tensor of a directory. The files are mapped into memory, so that only what is read takes room."""

    def __init__(self, directory: Path) -> None:
        """Open the files; raises ModelError when one is missing or broken, or there are only pickles."""
        self.directory = directory
        self._files: dict[str, Any] = {}
        index = directory / INDEX
        if index.exists():
            for file, names in _shards(index).items():
                handle = _open(directory / file)
                held = set(handle.keys())
                for name in names:
                    if name not in held:
                        raise ModelError(f"{directory / file} lacks {name}, which {INDEX} promises.", DOWNLOAD_AGAIN)
                    self._files[name] = handle
        else:
            handle = _open(_single_file(directory))
            self._files = dict.fromkeys(handle.keys(), handle)

    @property
    def names(self) -> list[str]:
        """Every tensor that is there."""
        return list(self._files)

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def require(self, shapes: dict[str, tuple[int, ...]], ignored: tuple[str, ...] = ()) -> None:
        """Checks, reading no weight, that exactly these tensors are there; `ignored` are endings of further ones.

        A tensor that the decoder would not use means that the model is not what its config says. Raises ModelError.
        """
        for name, shape in shapes.items():
            if name not in self._files:
                raise ModelError(f"The checkpoint {self.directory} lacks the tensor {name}.", DOWNLOAD_AGAIN)
            found = self._files[name].get_slice(name)
            if tuple(found.get_shape()) != shape:
                raise ModelError(
                    f"The tensor {name} is {found.get_shape()}, but config.json asks for {list(shape)}.",
                    UNRELATED,
                )
            if found.get_dtype() not in DTYPES:
                raise ModelError(
                    f"The tensor {name} is stored as {found.get_dtype()}, which is not supported.",
                    f"Choose a checkpoint in {', '.join(DTYPES)}.",
                )
        for name in self._files:
            if name not in shapes and not name.endswith(ignored):
                raise ModelError(
                    f"The checkpoint {self.directory} holds the tensor {name}, which such a model does not have.",
                    UNRELATED,
                )

    def size(self) -> tuple[int, int]:
        """The parameters of all tensors and their bytes, as the headers say."""
        slices = [(torch.Size(one.get_shape()).numel(), one.get_dtype()) for one in self._slices()]
        return sum(count for count, _ in slices), sum(count * ITEM_BYTES.get(name, 1) for count, name in slices)

    def _slices(self) -> Iterator[Any]:
        return (file.get_slice(name) for name, file in self._files.items())

    def read(self, name: str, dtype: torch.dtype) -> Tensor:
        """One tensor in `dtype`; raises ModelError when it is not finite there.

        It has memory of its own: a view of the file would change, or vanish, with the file.
        """
        try:
            tensor: Tensor = self._files[name].get_tensor(name)
        except (SafetensorError, OSError, RuntimeError) as error:
            raise ModelError(f"The tensor {name} cannot be read: {error}.", DOWNLOAD_AGAIN) from error
        tensor = tensor.to(dtype, copy=True)
        # One pass and no temporary: NaN passes through the minimum and the maximum.
        if not all(bool(end.isfinite()) for end in tensor.aminmax()):
            raise ModelError(
                f"The tensor {name} holds values that are not finite in {str(dtype).removeprefix('torch.')}.",
                "Download the checkpoint again, or use a wider number type.",
            )
        return tensor


def _shards(index: Path) -> dict[str, list[str]]:
    """File names and the tensors that the index places in each."""
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(file, str) for file in places.values()):
        raise ModelError(f"{index} has no weight_map.", DOWNLOAD_AGAIN)
    shards: dict[str, list[str]] = {}
    for name, file in places.items():
        if Path(file).name != file:
            raise ModelError(f"{index} names a file outside its directory: {file}.", DOWNLOAD_AGAIN)
        shards.setdefault(file, []).append(name)
    return shards


def _single_file(directory: Path) -> Path:
    found = sorted(directory.glob("*.safetensors"))
    if directory / SINGLE in found:
        return directory / SINGLE
    if len(found) == 1:
        return found[0]
    if found:
        raise ModelError(f"{directory} holds {len(found)} safetensors files and no {INDEX}.", DOWNLOAD_AGAIN)
    if any(path for pattern in PICKLES for path in directory.glob(pattern)):
        raise ModelError(
            f"{directory} holds pickled weights only, and unpickling runs whatever code is in them.",
            "Use a checkpoint in safetensors, or convert it with transformers' save_pretrained.",
        )
    raise ModelError(f"{directory} holds no safetensors file.", "Point to the directory of a Hugging Face checkpoint.")


def _open(path: Path) -> Any:
    if not path.exists():
        raise ModelError(f"The weights file {path} is missing.", DOWNLOAD_AGAIN)
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        hint = "It is a Git LFS pointer: run `git lfs pull`." if _is_pointer(path) else DOWNLOAD_AGAIN
        raise ModelError(f"The weights file {path} is truncated or corrupt: {error}.", hint) from error


def _is_pointer(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_LFS_POINTER)) == _LFS_POINTER
    except OSError:
        return False
