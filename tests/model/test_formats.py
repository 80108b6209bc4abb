"""Which weight format runs: what was asked for, or the fastest that rounds nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from helix_cli.backend import Backend, open_backend
from helix_cli.errors import DeviceError
from helix_cli.model import formats, speed
from helix_cli.model.architecture import read_architecture
from helix_cli.model.formats import choose_dtype, choose_weights, int8_note
from helix_cli.model.opening import ModelChoice, ModelOpener
from helix_cli.model.speed import ProductSpeed
from helix_cli.storage import Storage
from tests.tiny import tiny_checkpoint

F32, B16, F16 = torch.float32, torch.bfloat16, torch.float16
COSTS = {"float32": 4.0, "bfloat16": 2.0, "float16": 3.0, "int8": 1.0}


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch) -> Backend:
    """A processor that has everything."""
    monkeypatch.setattr(formats, "best_kernel", object)
    return open_backend("cpu", 1)


def choose(backend: Backend, requested: str, checkpoint: torch.dtype, dtype: torch.dtype, is_draft: bool) -> str:
    return choose_weights(requested, checkpoint, dtype, backend, is_draft, COSTS.__getitem__)


@pytest.mark.parametrize(
    ("checkpoint", "dtype", "target", "draft"),
    [
        (B16, F32, "bfloat16", "int8"),
        (F32, F32, "float32", "int8"),  # a target never goes narrower than its checkpoint
        (F16, F32, "float32", "int8"),
        (F32, B16, "bfloat16", "int8"),  # the user asked for the narrower type
    ],
)
def test_auto(cpu: Backend, checkpoint: torch.dtype, dtype: torch.dtype, target: str, draft: str) -> None:
    assert choose(cpu, "auto", checkpoint, dtype, False) == target
    assert choose(cpu, "auto", checkpoint, dtype, True) == draft


def test_auto_takes_what_is_faster_here(cpu: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "rounds_inputs", lambda dtype, backend: False)
    slow = COSTS | {"int8": 9.0, "bfloat16": 5.0}
    for is_draft in (False, True):
        assert choose_weights("auto", B16, F32, cpu, is_draft, slow.__getitem__) == "float32"


def test_whoever_asks_for_float32_gets_no_rounded_inputs(cpu: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(may_round: bool, requested: str = "auto", is_draft: bool = False) -> str:
        return choose_weights(requested, B16, F32, cpu, is_draft, COSTS.__getitem__, may_round)

    monkeypatch.setattr(formats, "rounds_inputs", lambda dtype, backend: dtype == B16)
    assert chosen(True) == "bfloat16" and chosen(False) == "float32"
    slow = COSTS | {"bfloat16": 9.0}
    for known in (slow.__getitem__, lambda name: None):
        assert choose_weights("auto", B16, F32, cpu, False, known) == "bfloat16", "no timing decides what is said"
    assert chosen(False, requested="bfloat16") == "bfloat16" and chosen(False, is_draft=True) == "int8"
    with monkeypatch.context() as without_integers:
        without_integers.setattr(formats, "best_kernel", lambda: None)
        assert chosen(False, is_draft=True) == "bfloat16", "a draft's digits are nobody's"
    monkeypatch.setattr(formats, "rounds_inputs", lambda dtype, backend: False)
    assert chosen(False) == "bfloat16", "weights of 16 bits cost no digit of the inputs"


def test_activations_are_float32_where_our_kernels_run(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = replace(open_backend("cpu", 1), automatic={B16: B16})
    for kernel, wanted in ((object(), F32), (None, B16)):
        monkeypatch.setattr(formats, "open_float", lambda kernel=kernel: kernel)
        assert choose_dtype("auto", B16, quick) == wanted
        assert choose_dtype("bfloat16", B16, quick) == B16
        assert choose_dtype("auto", B16, replace(quick, mixed_products=False)) == B16
        with pytest.raises(DeviceError, match="no number type"):
            choose_dtype("int3", B16, quick)


@pytest.mark.parametrize("name", ["float32", "bfloat16", "int8"])
def test_what_is_asked_for_is_what_runs(cpu: Backend, name: str) -> None:
    assert choose(cpu, name, F32, F32, False) == name


def test_what_cannot_be_honoured_is_refused_with_the_reason(cpu: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    card = replace(cpu, mixed_products=False, description="a card")
    with pytest.raises(DeviceError, match="on a card they need a Triton kernel, and it runs on CUDA and ROCm only"):
        choose(card, "int8", F32, F32, False)
    with pytest.raises(DeviceError, match="On a card weights are stored as they are computed with"):
        choose(card, "bfloat16", F32, F32, False)
    assert choose(card, "float32", F32, F32, False) == choose(card, "auto", F32, F32, True) == "float32"
    monkeypatch.setattr(formats, "best_kernel", lambda: None)
    with pytest.raises(DeviceError, match="no exact integer products"):
        choose(cpu, "int8", F32, F32, False)
    assert choose(cpu, "auto", F32, F32, True) == "bfloat16"


def test_int8_is_suggested_only_where_it_pays(cpu: Backend) -> None:
    note = int8_note("float32", cpu, COSTS.__getitem__)
    assert note is not None and "--weights int8" in note and "25 %" in note
    assert int8_note("int8", cpu, COSTS.__getitem__) is None
    assert int8_note("float32", cpu, (COSTS | {"int8": 3.5}).__getitem__) is None
    assert int8_note("float32", replace(cpu, mixed_products=False), COSTS.__getitem__) is None


def test_measurements_are_made_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = read_architecture(tiny_checkpoint(tmp_path / "model"))
    backend, storage = open_backend("cpu", 1), Storage(tmp_path / "kept", 1 << 30)
    calls: list[int] = []

    def timed(products: object, x: torch.Tensor) -> float:
        calls.append(len(x))
        return 1e-5 * len(x)

    monkeypatch.setattr(speed, "_time", timed)
    first = ProductSpeed(shape, F32, backend, storage)
    assert (first.one_row("float32"), first.decoding("float32"), calls) == (1e-5, 3e-5, [1, 5])
    again = ProductSpeed(shape, F32, backend, storage)
    assert again.decoding("float32") == first.decoding("float32") and len(calls) == 2
    (folder,) = (tmp_path / "kept" / "measurements").iterdir()
    (folder / "record.json").write_text('["fast", -1]')
    assert ProductSpeed(shape, F32, backend, storage).one_row("float32") == 1e-5 and len(calls) == 4


@pytest.mark.parametrize("name", ["float32", "bfloat16", "int8"])
def test_the_opener_gives_what_was_chosen(tmp_path: Path, name: str) -> None:
    path = tiny_checkpoint(tmp_path / "model")
    backend = open_backend("cpu", 1)
    if name == "int8" and formats.why_no_int8(backend, F32):
        pytest.skip("no exact integer products on this processor")
    opener = ModelOpener(backend, Storage(tmp_path / "kept", 1 << 30), lambda path: list(range(3, 90)))
    decoder, weights = opener.open(path, read_architecture(path), ModelChoice("auto", name, False))
    assert weights == name and decoder.dtype == F32
    sizes = {"float32": 4, "bfloat16": 2, "int8": 1}
    gate_up = decoder.layers[0].gate_up
    assert sizes[name] <= gate_up.num_bytes / (2 * 96 * 64) < 1.2 * sizes[name]


def test_a_machine_too_busy_to_measure_decides_nothing(
    cpu: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = read_architecture(tiny_checkpoint(tmp_path / "model"))
    monkeypatch.setattr(speed, "_time", lambda products, x: 0.02)
    monkeypatch.setattr(formats, "rounds_inputs", lambda dtype, backend: False)
    storage = Storage(tmp_path / "kept", 1 << 30)
    measured = ProductSpeed(shape, F32, open_backend("cpu", 1), storage)
    assert measured.one_row("float32") is None and measured.decoding("float32") is None
    assert storage.entries() == []
    for unknown in ("bfloat16", "float32"):
        costs: dict[str, float | None] = {**COSTS, unknown: None}
        assert choose_weights("auto", B16, F32, cpu, False, costs.__getitem__) == "float32"
    costs = {**COSTS, "bfloat16": None}
    assert int8_note("bfloat16", cpu, costs.__getitem__) is None


def test_times_are_of_single_products() -> None:
    """Ten products that count calls: every one is timed, and the time is positive."""
    calls: list[int] = []

    class Counting:
        def __init__(self, number: int) -> None:
            self.number = number

        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            calls.append(self.number)
            return x

    assert speed._time([Counting(n) for n in range(10)], torch.zeros(1)) > 0  # type: ignore[misc]
    assert set(calls) == set(range(10)) and len(calls) >= speed.SAMPLES
