"""Which of the two ways a model runs: the native decoder where it computes the family, else transformers' modules."""

from __future__ import annotations

from pathlib import Path

from helix_cli.model.architecture import Architecture, read_architecture
from helix_cli.model.hf.config import HFArchitecture, read_hf_architecture
from helix_cli.model.refusals import NotNative

AnyShape = Architecture | HFArchitecture
"""A model's shape; its type says how the model runs."""


def read_shape(directory: Path, implementation: str = "auto") -> AnyShape:
    """What config.json says of a model, and by its type how the model runs. Raises ModelError.

    `implementation` is auto, native or transformers. transformers is imported only for a model that needs it.
    """
    if implementation != "transformers":
        try:
            return read_architecture(directory)
        except NotNative:
            if implementation == "native":
                raise
    return read_hf_architecture(directory)
