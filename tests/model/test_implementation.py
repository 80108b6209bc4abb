"""Which way a model runs, and that the native way does not wait for transformers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from helix_cli.errors import ModelError
from helix_cli.model.architecture import Architecture
from helix_cli.model.hf.config import HFArchitecture
from helix_cli.model.implementation import read_shape
from helix_cli.model.refusals import NotNative
from tests.tiny import tiny_model


def config(directory: Path, family: str, **fields: Any) -> Path:
    """A checkpoint without weights."""
    tiny_model(family, **fields).config.save_pretrained(directory)
    return directory


def test_the_native_decoder_comes_first(tmp_path: Path) -> None:
    llama = config(tmp_path, "llama")
    assert isinstance(read_shape(llama), Architecture) and isinstance(read_shape(llama, "native"), Architecture)
    forced = read_shape(llama, "transformers")
    assert isinstance(forced, HFArchitecture) and forced.name == "LlamaForCausalLM"


@pytest.mark.parametrize(("family", "fields"), [("gemma", {}), ("llama", {"hidden_act": "gelu"})])
def test_what_it_does_not_compute_runs_through_transformers(
    tmp_path: Path, family: str, fields: dict[str, str]
) -> None:
    path = config(tmp_path, family, **fields)
    assert isinstance(read_shape(path), HFArchitecture)
    with pytest.raises(NotNative):
        read_shape(path, "native")


def test_a_broken_config_is_refused_by_the_native_reader(tmp_path: Path) -> None:
    path = config(tmp_path, "llama") / "config.json"
    path.write_text(path.read_text().replace('"vocab_size": 320', '"vocab_size": -1'))
    with pytest.raises(ModelError, match="vocab_size is -1"):
        read_shape(tmp_path)


def test_transformers_is_not_imported_for_a_native_model(tmp_path: Path) -> None:
    config(tmp_path, "llama")
    script = (
        "import sys\nfrom pathlib import Path\nimport helix_cli.model.opening\n"
        "from helix_cli.model.implementation import read_shape\nread_shape(Path(sys.argv[1]))\n"
        "sys.exit('transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False).returncode == 0
