"""The adapter as a model: cut to its first layers, interrupted, on devices without fused kernels, in eight bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from helix_cli.core import Row
from helix_cli.errors import Interrupted, ModelError
from helix_cli.model import calibrate
from helix_cli.model.calibrate import row_error
from helix_cli.model.hf.config import read_hf_architecture
from helix_cli.model.hf.decoder import HFDecoder
from helix_cli.model.hf.linear import ProductModule
from helix_cli.model.hf.loading import load_hf_decoder
from helix_cli.model.int8 import Int8Linear
from helix_cli.model.int8_kernels import best_kernel
from helix_cli.model.int8_loader import Int8Rounding
from helix_cli.model.runner import ModelRunner
from helix_cli.model.weight_cache import WeightCache
from helix_cli.storage import Storage
from tests.model.hf.zoo import load, make, runner_over
from tests.model.parity import Text, cpu, shuffled_table

TOKENS = list(range(3, 23))


def saved(path: Path, name: str, **config: Any) -> Any:
    """A family's model, saved; it computes by its own attention."""
    model = make(name, **config)
    model.save_pretrained(path)
    model.set_attn_implementation("eager")
    return model


def logits(decoder: HFDecoder) -> Tensor:
    """Of TOKENS, over a shuffled table."""
    return runner_over(decoder).forward([Row(shuffled_table(5), TOKENS, num_logits=20)])


@pytest.mark.parametrize("name", ["gpt2", "gemma3_text", "gpt_neox", "deepseek_v3"])
def test_the_first_layers_are_a_model_too(name: str, tmp_path: Path) -> None:
    saved(tmp_path, name)
    whole = load(tmp_path)
    short = whole.truncated(2)
    assert (short.architecture.num_layers, len(short.kv_shapes)) == (2, 2)
    assert short.embedding is whole.embedding and short.num_bytes < whole.num_bytes
    expected = make(name)
    layers = next(one for one in expected.modules() if isinstance(one, torch.nn.ModuleList) and len(one) == 4)
    del layers[2:]
    expected.set_attn_implementation("eager")
    text = Text(runner_over(short), expected, TOKENS, shuffled_table(6))
    assert text.feed(12, num_logits=12) < 1e-4
    assert text.feed(5, num_logits=5) < 1e-4
    assert (logits(whole) - logits(short)).abs().max() > 1e-2, "the whole model has lost its layers"


def test_what_cannot_be_cut_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path, "gpt2")
    decoder = load(tmp_path)
    for count in (0, 5):
        with pytest.raises(ModelError, match="of 4 layers cannot be cut"):
            decoder.truncated(count)
    monkeypatch.setattr(HFDecoder, "_layer_list", lambda self: None)
    with pytest.raises(ModelError, match="not in one list"):
        decoder.truncated(2)


def test_an_interruption_is_seen_between_layers(tmp_path: Path) -> None:
    saved(tmp_path, "gpt2")
    decoder, asked = load(tmp_path), list[int]()

    def third_time() -> bool:
        asked.append(1)
        return len(asked) == 3

    runner = runner_over(decoder)
    table, row = shuffled_table(5), TOKENS
    wanted = runner.forward([Row(table, row, 20)])
    interrupted = ModelRunner(decoder, runner.cache, third_time)
    with pytest.raises(Interrupted):
        interrupted.forward([Row(table, row, 20)])
    assert len(asked) == 3
    assert torch.equal(runner.forward([Row(table, row, 20)]), wanted)


def test_a_model_that_gives_all_logits_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path, "gpt2")
    decoder = load(tmp_path)
    some = [Row(shuffled_table(5), TOKENS, num_logits=3)]
    wanted = runner_over(decoder).forward(some)
    monkeypatch.setitem(decoder.__dict__, "_keeps_logits", False)
    assert torch.allclose(runner_over(decoder).forward(some), wanted, atol=1e-5)


@pytest.mark.parametrize("name", ["gpt2", "mixtral", "gpt_oss"])
def test_without_fused_kernels_and_without_products(name: str, tmp_path: Path) -> None:
    """As on DirectML: attention by products, experts without sorting, transformers' own linear modules."""
    model = saved(tmp_path, name)
    decoder = load(tmp_path, fused_attention=False, mixed_products=False)
    assert not any(isinstance(module, ProductModule) for module in decoder.module.modules())
    text = Text(runner_over(decoder), model, TOKENS, shuffled_table(6))
    assert text.feed(17, num_logits=17) < 1e-4
    assert text.feed(3, num_logits=3) < 1e-4


def test_the_bytes_of_a_pass_are_counted_once(tmp_path: Path) -> None:
    model = saved(tmp_path, "gpt2")
    matrices = sum(p.numel() for name, p in model.named_parameters() if p.ndim > 1 and "wte" not in name)
    head = model.config.vocab_size * model.config.n_embd
    for has_products in (True, False):
        assert load(tmp_path, mixed_products=has_products).num_bytes == 4 * (matrices + head)


@pytest.mark.skipif(best_kernel() is None, reason="no exact integer products on this processor")
class TestInt8:
    """Eight-bit weights in the place of linear modules, GPT-2's Conv1D among them."""

    @pytest.fixture(params=["gpt2", "gemma2"])
    def checkpoint(self, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        # Tiny random models are rougher than trained ones; the products are good enough all the same.
        monkeypatch.setattr(calibrate, "TOLERANCE", 0.1)
        path = tmp_path / "model"
        wide = (
            {"n_embd": 128, "n_layer": 2} if request.param == "gpt2" else {"hidden_size": 128, "intermediate_size": 128}
        )
        saved(path, request.param, **wide)
        return path

    def load(self, path: Path) -> tuple[HFDecoder, list[str]]:
        """With eight-bit weights, kept beside the checkpoint; and what was said."""
        kernel, told = best_kernel(), list[str]()
        assert kernel is not None
        rounding = Int8Rounding(WeightCache(Storage(path.parent, 1 << 30), path, "test"), kernel, lambda: TOKENS * 4)
        shape = read_hf_architecture(path)
        return load_hf_decoder(path, shape, cpu(), torch.float32, rounding, told.append), told

    def test_near_the_float_model_and_the_same_from_the_cache(
        self, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wanted = logits(load(checkpoint))
        first, told = self.load(checkpoint)
        products = [one.product for one in first.module.modules() if isinstance(one, ProductModule)]
        assert told == [] and products and all(isinstance(one, Int8Linear) for one in products)
        found = logits(first)
        assert 0 < row_error(found, wanted, wanted) < 0.15
        monkeypatch.setattr("helix_cli.model.hf.linear.fit", None)  # from now on everything comes from the disk
        again, told = self.load(checkpoint)
        assert told == [] and torch.equal(logits(again), found)

    def test_a_damaged_cache_is_made_anew(self, checkpoint: Path) -> None:
        found = logits(self.load(checkpoint)[0])
        (folder,) = (checkpoint.parent / "weights").iterdir()
        (folder / "part-0001.safetensors").write_bytes(b"broken")
        again, told = self.load(checkpoint)
        assert len(told) == 1 and "made anew" in told[0]
        assert torch.equal(logits(again), found)

    def test_a_matrix_that_eight_bits_do_not_do_for_stays_wide(
        self, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("helix_cli.model.hf.linear.fit", lambda *_: None)
        wanted = logits(load(checkpoint))
        for _ in range(2):
            assert torch.allclose(logits(self.load(checkpoint)[0]), wanted, atol=1e-4)
