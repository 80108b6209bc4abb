"""C functions are compiled once, and whatever keeps them from it leaves the work to torch."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from helix_cli.native import compile as native

SOURCE = "void twice(float *x, long n) { for (long i = 0; i < n; i++) x[i] *= 2; }"


@pytest.fixture
def twice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], native.Function | None]:
    monkeypatch.setenv("HELIX_CACHE_DIR", str(tmp_path / "kept"))
    (tmp_path / "twice.c").write_text(SOURCE)
    monkeypatch.setattr(native, "SOURCES", tmp_path)
    return lambda: native.open_function("twice.c", "twice", (ctypes.c_void_p, ctypes.c_long))


def test_a_function_is_compiled_once(
    monkeypatch: pytest.MonkeyPatch, twice: Callable[[], native.Function | None]
) -> None:
    if twice() is None:
        pytest.skip("no compiler here")
    monkeypatch.setattr(native, "_compile", None)
    function, x = twice(), torch.tensor([1.0, -3.0])
    assert function is not None
    function(native.pointer(x), 2)
    assert x.tolist() == [2.0, -6.0]


@pytest.mark.parametrize("fault", ["compiler", "fails", "slow", "openmp", "read-only", "missing", "platform"])
def test_what_cannot_be_compiled_is_left_to_torch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, twice: Callable[[], native.Function | None], fault: str
) -> None:
    if fault == "compiler":
        monkeypatch.setattr("shutil.which", lambda name: None)
    elif fault == "fails":
        (tmp_path / "twice.c").write_text("this is no C")
    elif fault == "slow":
        monkeypatch.setattr(native, "COMPILE_S", 1e-6)
    elif fault == "openmp":
        monkeypatch.setattr(native, "_share_openmp", lambda: False)
    elif fault == "read-only":
        (tmp_path / "kept").write_text("a file where the directory should be")
    elif fault == "missing":
        (tmp_path / "twice.c").write_text("void thrice(void) {}")
    else:
        monkeypatch.setattr("sys.platform", "win32")
    assert twice() is None


def test_only_contiguous_floats_have_an_address() -> None:
    assert native.pointer(None) is None
    for wrong in (torch.zeros(4, 4).t()[1:], torch.zeros(2, dtype=torch.float64)):
        with pytest.raises(AssertionError):
            native.pointer(wrong)
