"""Opening devices by name, choosing number types, and what every backend owes its users."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from helix_cli import backend as package
from helix_cli.backend import BACKENDS, Backend, cpu, cuda, directml, host, mps, open_backend
from helix_cli.backend.backend import check_works
from helix_cli.errors import DeviceError


@pytest.fixture(autouse=True)
def keep_threads() -> Iterator[None]:
    """Leave PyTorch's thread count as it was."""
    count = torch.get_num_threads()
    yield
    torch.set_num_threads(count)


def available() -> list[str]:
    """The devices of this machine."""
    return ["cpu", *(name for name, present in (("cuda", cuda.is_present), ("mps", mps.is_present)) if present())]


@pytest.mark.parametrize("name", available())
def test_an_open_backend_keeps_its_promises(name: str) -> None:
    backend = open_backend(name)
    assert backend.name == name
    assert backend.description
    free = backend.free_memory()
    assert free is None or free > 0
    for dtype in backend.dtypes:
        left = torch.ones(3, 4, dtype=dtype, device=backend.device)
        product = left @ torch.ones(4, 5, dtype=dtype, device=backend.device)
        backend.synchronize()
        assert product.cpu().float().eq(4.0).all()
    for chosen in backend.automatic.values():
        assert chosen in backend.dtypes


@pytest.mark.parametrize("name", BACKENDS)
def test_a_device_that_is_not_there_says_so(name: str) -> None:
    if name in available():
        return
    with pytest.raises(DeviceError) as caught:
        open_backend(name)
    assert caught.value.message.endswith(".")
    assert caught.value.hint


@pytest.mark.parametrize("name", ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "CPU", "cpu:0:1", "privateuseone"])
def test_unknown_names(name: str) -> None:
    with pytest.raises(DeviceError, match="There is no device"):
        open_backend(name)


def test_a_near_miss_is_named() -> None:
    with pytest.raises(DeviceError) as caught:
        open_backend("cdua")
    assert "Did you mean 'cuda'?" in caught.value.hint


def test_there_is_one_cpu() -> None:
    with pytest.raises(DeviceError, match="cpu:1"):
        open_backend("cpu:1")


def test_threads_are_set_and_checked() -> None:
    assert "1 thread" in open_backend("cpu", threads=1).description
    assert torch.get_num_threads() == 1
    with pytest.raises(DeviceError, match="0 is not a number"):
        open_backend("cpu", threads=0)


def test_threads_default_to_the_usable_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(host, "usable_cores", lambda: 3)
    assert cpu.default_threads() == 3
    monkeypatch.setattr(host, "usable_cores", lambda: None)
    assert cpu.default_threads() == torch.get_num_threads()
    monkeypatch.setattr(host, "usable_cores", lambda: 3)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert cpu.default_threads() == torch.get_num_threads()


@pytest.mark.parametrize(("flags", "fast"), [({"avx2"}, False), ({"avx512_bf16"}, True), ({"bf16"}, True)])
def test_bfloat16_on_the_cpu_needs_the_instructions(
    monkeypatch: pytest.MonkeyPatch, flags: set[str], fast: bool
) -> None:
    monkeypatch.setattr(host, "processor_flags", lambda: frozenset(flags))
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False, raising=False)
    monkeypatch.setattr(cpu, "_has_onednn", lambda: True)
    backend = open_backend("cpu")
    assert backend.choose_dtype("auto", torch.bfloat16) == (torch.bfloat16 if fast else torch.float32)
    assert backend.choose_dtype("auto", torch.float16) == torch.float32
    assert backend.choose_dtype("auto", torch.float32) == torch.float32
    assert backend.choose_dtype("bfloat16", torch.float32) == torch.bfloat16


def test_an_unsupported_number_type_is_refused_with_the_choices() -> None:
    backend = replace(open_backend("cpu"), dtypes=(torch.float32,), description="A toy")
    with pytest.raises(DeviceError) as caught:
        backend.choose_dtype("bfloat16", torch.bfloat16)
    assert caught.value.message == "A toy does not support bfloat16."
    assert caught.value.hint == "Use auto, float32."
    with pytest.raises(DeviceError, match="no number type 'int3'"):
        backend.choose_dtype("int3", torch.float32)


def test_a_device_that_adds_wrongly_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "ones", torch.zeros)
    with pytest.raises(RuntimeError, match=r"gave \[1.0, 2.0\]"):
        check_works(torch.device("cpu"))
    with pytest.raises(DeviceError, match="PyTorch fails on the CPU"):
        open_backend("cpu")


def opener(name: str, fails: str | None = None) -> package.Opener:
    """An opener that gives a CPU called `name`, or fails."""

    def open_it(index: int | None, threads: int | None) -> Backend:
        if fails:
            raise DeviceError(fails)
        return replace(cpu.open_cpu(None, threads), name=name)

    return open_it


@pytest.mark.parametrize(
    ("present", "broken", "chosen", "notes"),
    [
        ((), (), "cpu", ()),
        (("directml",), (), "directml", ()),
        (("mps", "directml"), (), "mps", ()),
        (("cuda", "mps", "directml"), (), "cuda", ()),
        (("cuda",), ("cuda",), "cpu", ("cuda is broken.",)),
        (("cuda", "directml"), ("cuda", "directml"), "cpu", ("cuda is broken.", "directml is broken.")),
    ],
)
def test_auto_takes_the_best_that_works_and_mentions_what_failed(
    monkeypatch: pytest.MonkeyPatch,
    present: tuple[str, ...],
    broken: tuple[str, ...],
    chosen: str,
    notes: tuple[str, ...],
) -> None:
    openers = {name: opener(name, f"{name} is broken." if name in broken else None) for name in BACKENDS}
    monkeypatch.setattr(package, "BACKENDS", openers)
    looks = {name: (lambda there=name in present: there) for name in ("cuda", "mps", "directml")}
    monkeypatch.setattr(package, "_AUTOMATIC", looks)
    backend = open_backend("auto")
    assert (backend.name, backend.notes) == (chosen, notes)


def test_directml_is_looked_for_without_importing_it() -> None:
    assert directml.is_present() in (True, False)
