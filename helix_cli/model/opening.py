"""Opens one model for a config: chooses number type and weight format, and loads it that way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import overload

import torch

from helix_cli.attention.triton_paged import why_not
from helix_cli.backend import NUMBER_TYPES, Backend, host
from helix_cli.errors import DeviceError
from helix_cli.model.architecture import Architecture
from helix_cli.model.decoder import Decoder
from helix_cli.model.formats import INT8, choose_dtype, choose_weights, int8_note
from helix_cli.model.hf.config import HFArchitecture
from helix_cli.model.implementation import AnyShape
from helix_cli.model.int8_device import Int8DeviceLinear
from helix_cli.model.int8_kernels import best_kernel
from helix_cli.model.int8_loader import Int8Rounding, load_int8_decoder
from helix_cli.model.language_model import LanguageModel
from helix_cli.model.loader import Loader, load_decoder
from helix_cli.model.speed import ProductSpeed
from helix_cli.model.weight_cache import WeightCache
from helix_cli.model.weights import Weights
from helix_cli.storage import Storage


@dataclass(frozen=True)
class ModelChoice:
    """What the config says of one model, by name: "auto" or a value."""

    dtype: str
    weights: str
    is_draft: bool


class ModelOpener:
    """Opens target and draft on one device; `notes` collects what the user should hear about them."""

    def __init__(self, backend: Backend, storage: Storage, calibration: Callable[[Path], Sequence[int]]) -> None:
        """`calibration` gives the ids of ordinary text for a checkpoint, if eight-bit weights have to be chosen."""
        self._backend, self._storage, self._calibration = backend, storage, calibration
        self._chosen: dict[tuple[AnyShape, ModelChoice], tuple[torch.dtype, str]] = {}
        self.notes: list[str] = []

    def choose(self, architecture: AnyShape, choice: ModelChoice) -> tuple[torch.dtype, str]:
        """The number type to compute in and the format of the weights, chosen once; raises DeviceError."""
        key = (architecture, choice)
        if key not in self._chosen:
            self._chosen[key] = self._choose(architecture, choice)
        return self._chosen[key]

    @overload
    def open(self, path: Path, architecture: Architecture, choice: ModelChoice) -> tuple[Decoder, str]: ...

    @overload
    def open(self, path: Path, architecture: HFArchitecture, choice: ModelChoice) -> tuple[LanguageModel, str]: ...

    def open(self, path: Path, architecture: AnyShape, choice: ModelChoice) -> tuple[LanguageModel, str]:
        """The model and the name of its weight format; raises ModelError and DeviceError."""
        decoder, weights = self._open(path, architecture, choice)
        host.give_back_freed_memory()
        if not choice.is_draft:
            self.notes += attention_notes(decoder)
        return decoder, weights

    def _choose(self, architecture: AnyShape, choice: ModelChoice) -> tuple[torch.dtype, str]:
        backend = self._backend
        dtype, may_round = choose_dtype(choice.dtype, architecture.dtype, backend), choice.dtype != "float32"
        speed = ProductSpeed(architecture, dtype, backend, self._storage)
        cost = speed.one_row if choice.is_draft else speed.decoding
        weights = choose_weights(choice.weights, architecture.dtype, dtype, backend, choice.is_draft, cost, may_round)
        if weights == INT8 and isinstance(architecture, HFArchitecture) and not backend.mixed_products:
            raise DeviceError(
                f"On {backend.description} only Helix's own decoder has eight-bit weights, and {architecture.name} "
                "runs through transformers.",
                "Leave weights at auto.",
            )
        if choice.weights == "auto" and not choice.is_draft:
            note = int8_note(weights, backend, cost)
            self.notes += [note] if note else []
        return dtype, weights

    def _open(self, path: Path, architecture: AnyShape, choice: ModelChoice) -> tuple[LanguageModel, str]:
        backend = self._backend
        dtype, weights = self.choose(architecture, choice)
        if isinstance(architecture, HFArchitecture):
            from helix_cli.model.hf.loading import load_hf_decoder

            matrices = self._rounding(path, f"transformers {dtype}") if weights == INT8 else NUMBER_TYPES[weights]
            return load_hf_decoder(path, architecture, backend, dtype, matrices, self.notes.append), weights
        if weights != INT8:
            return load_decoder(path, architecture, backend, dtype, NUMBER_TYPES[weights]), weights
        loader = Loader(Weights(path), architecture, backend, dtype, dtype)
        if not backend.mixed_products:
            return loader.decoder(lambda _, matrix: Int8DeviceLinear(matrix.weight(), matrix.bias())), weights
        return load_int8_decoder(loader, architecture, self._rounding(path, str(dtype)), self.notes.append), weights

    def _rounding(self, path: Path, settings: str) -> Int8Rounding:
        """`settings` names whatever the values depend on beside the checkpoint and the kernel."""
        kernel = best_kernel()
        assert kernel is not None, "choose_weights has asked"
        cache = WeightCache(self._storage, path, f"{settings} {kernel.levels}")
        return Int8Rounding(cache, kernel, partial(self._calibration, path))


def attention_notes(model: LanguageModel) -> list[str]:
    """A sentence where a device could have a Triton kernel and has none."""
    if not isinstance(model, Decoder) or model.capture is None:
        return []
    reason = why_not(model.heads, model.dtype, model.device)
    return [f"Attention runs in PyTorch, more slowly than in Triton: {reason}."] if reason else []
