"""Opens one model for a config: chooses number type and weight format, and loads it that way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from helix_cli.backend import NUMBER_TYPES, Backend, host
from helix_cli.model.architecture import Architecture
from helix_cli.model.decoder import Decoder
from helix_cli.model.formats import INT8, choose_weights, int8_note
from helix_cli.model.hf.config import HFArchitecture
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

    def __init__(self, backend: Backend, storage: Storage, calibration: Callable[[], Sequence[int]]) -> None:
        """`calibration` gives the token ids of some ordinary text, if eight-bit weights have to be chosen."""
        self._backend, self._storage, self._calibration = backend, storage, calibration
        self.notes: list[str] = []

    @overload
    def open(self, path: Path, architecture: Architecture, choice: ModelChoice) -> tuple[Decoder, str]: ...

    @overload
    def open(self, path: Path, architecture: HFArchitecture, choice: ModelChoice) -> tuple[LanguageModel, str]: ...

    def open(
        self, path: Path, architecture: Architecture | HFArchitecture, choice: ModelChoice
    ) -> tuple[LanguageModel, str]:
        """The model and the name of its weight format; raises ModelError and DeviceError."""
        opened = self._open(path, architecture, choice)
        host.give_back_freed_memory()
        return opened

    def _open(
        self, path: Path, architecture: Architecture | HFArchitecture, choice: ModelChoice
    ) -> tuple[LanguageModel, str]:
        backend = self._backend
        dtype = backend.choose_dtype(choice.dtype, architecture.dtype)
        speed = ProductSpeed(architecture, dtype, backend, self._storage)
        cost = speed.one_row if choice.is_draft else speed.decoding
        weights = choose_weights(choice.weights, architecture.dtype, dtype, backend, choice.is_draft, cost)
        if choice.weights == "auto" and not choice.is_draft:
            note = int8_note(weights, backend, cost)
            self.notes += [note] if note else []
        if isinstance(architecture, HFArchitecture):
            from helix_cli.model.hf.loading import load_hf_decoder

            matrices = self._rounding(path, f"transformers {dtype}") if weights == INT8 else NUMBER_TYPES[weights]
            return load_hf_decoder(path, architecture, backend, dtype, matrices, self.notes.append), weights
        if weights != INT8:
            return load_decoder(path, architecture, backend, dtype, NUMBER_TYPES[weights]), weights
        loader = Loader(Weights(path), architecture, backend, dtype, dtype)
        return load_int8_decoder(loader, architecture, self._rounding(path, str(dtype)), self.notes.append), weights

    def _rounding(self, path: Path, settings: str) -> Int8Rounding:
        """`settings` names whatever the values depend on beside the checkpoint and the kernel."""
        kernel = best_kernel()
        assert kernel is not None, "choose_weights has asked"
        cache = WeightCache(self._storage, path, f"{settings} {kernel.levels}")
        return Int8Rounding(cache, kernel, self._calibration)
