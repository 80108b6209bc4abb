"""Every way in which a checkpoint's weights can be bad is one sentence that names the place."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from helix_cli.errors import ModelError
from helix_cli.model.architecture import read_architecture
from helix_cli.model.decoder import Decoder
from helix_cli.model.float_native import NativeLinear
from helix_cli.model.linear import Linear
from helix_cli.model.loader import load_decoder
from helix_cli.model.weights import INDEX
from tests.model.parity import cpu
from tests.tiny import tiny_checkpoint

SMALL: dict[str, Any] = {"num_hidden_layers": 1, "hidden_size": 32, "intermediate_size": 48, "vocab_size": 64}
DOWN = "model.layers.0.mlp.down_proj.weight"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return tiny_checkpoint(tmp_path / "model", **SMALL)


def load(path: Path, dtype: torch.dtype = torch.float32, **backend: Any) -> Decoder:
    return load_decoder(path, read_architecture(path), cpu(**backend), dtype)


def refusal(path: Path, **arguments: Any) -> ModelError:
    with pytest.raises(ModelError) as error:
        load(path, **arguments)
    assert error.value.hint and error.value.message.endswith(".")
    return error.value


def change(path: Path, **tensors: Tensor | None) -> None:
    """Replaces, adds or (None) drops tensors; `__` stands for a dot."""
    file = path / "model.safetensors"
    held = load_file(file) | {name.replace("__", "."): tensor for name, tensor in tensors.items()}
    save_file({name: tensor for name, tensor in held.items() if tensor is not None}, file)


def test_a_missing_tensor(checkpoint: Path) -> None:
    change(checkpoint, **{DOWN.replace(".", "__"): None})
    assert f"lacks the tensor {DOWN}" in refusal(checkpoint).message


def test_a_missing_head_of_an_untied_model(checkpoint: Path) -> None:
    change(checkpoint, lm_head__weight=None)
    assert "lacks the tensor lm_head.weight" in refusal(checkpoint).message


def test_a_shape_that_does_not_fit(checkpoint: Path) -> None:
    change(checkpoint, **{DOWN.replace(".", "__"): torch.zeros(32, 47)})
    assert f"{DOWN} is [32, 47], but config.json asks for [32, 48]" in refusal(checkpoint).message


def test_a_tensor_that_would_be_ignored(checkpoint: Path) -> None:
    change(checkpoint, model__layers__0__self_attn__q_norm__weight=torch.ones(8))
    assert "q_norm.weight, which such a model does not have" in refusal(checkpoint).message


def test_old_rotary_frequencies_are_ignored(checkpoint: Path) -> None:
    change(checkpoint, model__layers__0__self_attn__rotary_emb__inv_freq=torch.ones(4))
    load(checkpoint)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite(checkpoint: Path, value: float) -> None:
    weight = load_file(checkpoint / "model.safetensors")[DOWN]
    weight[3, 5] = value
    change(checkpoint, **{DOWN.replace(".", "__"): weight})
    assert f"{DOWN} holds values that are not finite in float32" in refusal(checkpoint).message


def test_values_that_a_narrower_type_cannot_hold(checkpoint: Path) -> None:
    change(checkpoint, model__norm__weight=torch.full((32,), 1e6))
    load(checkpoint)
    error = refusal(checkpoint, dtype=torch.float16)
    assert "model.norm.weight holds values that are not finite in float16" in error.message
    assert "wider" in error.hint


@pytest.mark.parametrize("dtype", [torch.int8, torch.float64])
def test_a_stored_type_that_is_not_supported(checkpoint: Path, dtype: torch.dtype) -> None:
    change(checkpoint, model__norm__weight=torch.ones(32, dtype=dtype))
    assert "model.norm.weight is stored as" in refusal(checkpoint).message


@pytest.mark.parametrize("size", [0, 5, 100, -10])
def test_a_truncated_file(checkpoint: Path, size: int) -> None:
    file = checkpoint / "model.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    assert "truncated or corrupt" in refusal(checkpoint).message


def test_a_corrupt_file(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").write_bytes(b"\xff" * 1000)
    assert "truncated or corrupt" in refusal(checkpoint).message


def test_a_git_lfs_pointer(checkpoint: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    (checkpoint / "model.safetensors").write_text(pointer)
    assert "git lfs pull" in refusal(checkpoint).hint


def test_pickles_are_refused_with_the_reason(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").unlink()
    assert "holds no safetensors file" in refusal(checkpoint).message
    (checkpoint / "pytorch_model.bin").write_bytes(pickle.dumps({}))
    error = refusal(checkpoint)
    assert "pickled weights only, and unpickling runs whatever code" in error.message and "safetensors" in error.hint


def test_one_file_of_another_name_and_two(checkpoint: Path) -> None:
    file = checkpoint / "model.safetensors"
    file.rename(checkpoint / "weights.safetensors")
    load(checkpoint)
    save_file({"a": torch.ones(1)}, checkpoint / "more.safetensors")
    assert "holds 2 safetensors files and no model.safetensors.index.json" in refusal(checkpoint).message


class TestShards:
    """A checkpoint in several files with an index."""

    @pytest.fixture
    def sharded(self, tmp_path: Path) -> Path:
        path = tiny_checkpoint(tmp_path / "sharded", max_shard_size="10KB", **SMALL)
        assert len(list(path.glob("*.safetensors"))) > 2
        return path

    def index(self, path: Path, **changes: Any) -> None:
        file = path / INDEX
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    def test_is_the_same_model(self, sharded: Path, checkpoint: Path) -> None:
        assert torch.equal(load(sharded).embedding, load(checkpoint).embedding)

    def test_a_missing_shard(self, sharded: Path) -> None:
        shard = sorted(sharded.glob("*.safetensors"))[1]
        shard.unlink()
        assert f"{shard} is missing" in refusal(sharded).message

    def test_a_shard_without_what_the_index_promises(self, sharded: Path) -> None:
        places = json.loads((sharded / INDEX).read_text())["weight_map"]
        self.index(sharded, weight_map=places | {"model.norm.weight": places["model.embed_tokens.weight"]})
        if places["model.norm.weight"] != places["model.embed_tokens.weight"]:
            assert "lacks model.norm.weight, which" in refusal(sharded).message

    def test_a_broken_index(self, sharded: Path) -> None:
        self.index(sharded, weight_map=None)
        assert "has no weight_map" in refusal(sharded).message
        self.index(sharded, weight_map={DOWN: "../elsewhere.safetensors"})
        assert "outside its directory" in refusal(sharded).message
        (sharded / INDEX).write_text("{")
        assert "not valid JSON" in refusal(sharded).message


class TestTiedHead:
    """A head that is the embedding."""

    @pytest.fixture
    def tied(self, tmp_path: Path) -> Path:
        return tiny_checkpoint(tmp_path / "tied", tie_word_embeddings=True, **SMALL)

    def test_may_be_stored_again(self, tied: Path) -> None:
        embedding = load_file(tied / "model.safetensors")["model.embed_tokens.weight"]
        change(tied, lm_head__weight=embedding.clone())
        load(tied)

    def test_must_not_differ(self, tied: Path) -> None:
        change(tied, lm_head__weight=torch.zeros(64, 32))
        assert "lm_head.weight differs" in refusal(tied).message

    @pytest.mark.parametrize("own_kernel", [True, False])
    def test_is_not_held_twice_where_nothing_is_packed(self, tied: Path, own_kernel: bool) -> None:
        decoder = load(tied, packed_linear=False, mixed_products=own_kernel)
        if isinstance(decoder.head, NativeLinear):
            assert own_kernel and decoder.head._weight.data_ptr() == decoder.embedding.data_ptr()
            return
        assert isinstance(decoder.head, Linear) and decoder.head._plain is not None
        assert decoder.head._plain.data_ptr() == decoder.embedding.data_ptr()


def test_a_decoder_does_not_depend_on_its_file(checkpoint: Path) -> None:
    decoder = load(checkpoint, packed_linear=False, mixed_products=False)
    before = decoder.embedding.clone()
    (checkpoint / "model.safetensors").write_bytes(b"")
    assert torch.equal(decoder.embedding, before)
    for layer in decoder.layers:
        assert isinstance(layer.down, Linear) and layer.down._plain is not None
        assert layer.down._plain.isfinite().all()


def test_only_one_copy_of_large_weights_is_held(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helix_cli.model.linear.SMALL", 0)
    for packed in (True, False):
        linear = load(checkpoint, packed_linear=packed, mixed_products=False).layers[0].qkv
        assert isinstance(linear, Linear)
        assert (linear._plain is None) == linear.packed == (linear._packed is not None)
