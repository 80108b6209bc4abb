"""Float products of the compiled kernel: right in every shape, and a row's bits never depend on the other rows."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from helix_cli.model import float_native
from helix_cli.model.float_native import (
    DTYPES,
    MANY_ROUNDED_ROWS,
    MANY_ROWS,
    NativeLinear,
    can_round,
    has_rounded,
    open_float,
)
from helix_cli.native.compile import Function, open_function

SHAPES = [(1, 1), (3, 7), (8, 16), (33, 40), (70, 1100), (130, 515)]


@pytest.fixture(name="function")
def _function() -> Function:
    if open_function(float_native.SOURCE, "helix_float", float_native.ARGUMENTS) is None:
        pytest.skip("no compiler here")
    found = open_float()
    assert found is not None, "what was compiled here is wrong"
    return found


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("has_bias", [False, True])
def test_products(function: Function, shape: tuple[int, int], dtype: torch.dtype, has_bias: bool) -> None:
    weight, bias = random(*shape).to(dtype), random(shape[0], seed=1) if has_bias else None
    product = NativeLinear(weight, bias, function)
    for rows in (1, 2, 3, 4, 5, 6, 7, 13, MANY_ROWS - 1, MANY_ROWS, 2 * MANY_ROWS):
        x, residual = random(rows, shape[1]), random(rows, shape[0])
        kept = residual.clone()
        wanted = functional.linear(x, weight.float(), bias)
        torch.testing.assert_close(product(x), wanted, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(product.add(x, residual), wanted + residual, atol=1e-4, rtol=1e-4)
        assert torch.equal(residual, kept)
    assert product(torch.empty(0, shape[1])).shape == (0, shape[0])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_rows_bits_do_not_depend_on_its_company(
    function: Function, shape: tuple[int, int], dtype: torch.dtype, threads: int
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        product = NativeLinear(random(*shape).to(dtype), random(shape[0]), function).uniform(1)
        x = random(2 * MANY_ROWS, shape[1])
        whole = product(x)
        for rows in (1, 2, 3, 4, 5, 6, 7, 8, 13, MANY_ROWS):
            assert torch.equal(product(x[:rows]), whole[:rows])
            assert torch.equal(product(x[-rows:]), whole[-rows:])
    finally:
        torch.set_num_threads(before)


def test_wide_bfloat16_matrices_are_widened_in_parts(function: Function, monkeypatch: pytest.MonkeyPatch) -> None:
    weight, bias, x = random(70, 48).bfloat16(), random(70), random(MANY_ROWS, 48)
    monkeypatch.setattr(float_native, "WIDENED", 48 * 32)
    found = NativeLinear(weight, bias, function)(x)
    torch.testing.assert_close(found, functional.linear(x, weight.float(), bias), atol=1e-4, rtol=1e-4)


def test_rows_may_lie_anywhere_and_be_narrow(function: Function) -> None:
    weight = random(12, 10)
    product = NativeLinear(weight, None, function)
    x = random(10, 9).t()
    assert not x.is_contiguous()
    torch.testing.assert_close(product(x), x @ weight.t(), atol=1e-5, rtol=1e-5)
    narrow, residual = random(3, 10).bfloat16(), random(3, 12).bfloat16()
    found = product.add(narrow, residual)
    assert found.dtype == torch.bfloat16
    wanted = (narrow.float() @ weight.t() + residual.float()).bfloat16()
    torch.testing.assert_close(found, wanted, atol=0, rtol=2**-7)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_so(function: Function, value: float) -> None:
    x = random(3, 20)
    x[1, 19] = value
    found = NativeLinear(random(9, 20), None, function)(x).isfinite().all(1)
    assert found.tolist() == [True, False, True]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rounded_products(function: Function, shape: tuple[int, int]) -> None:
    """Right to the bits of float32 sums for rounded inputs, and a row's bits are its own."""
    if not has_rounded():
        pytest.skip("this processor does not multiply bfloat16")
    assert can_round(), "what was compiled here is wrong"
    weight, bias, x = random(*shape).bfloat16(), random(shape[0], seed=1), random(MANY_ROUNDED_ROWS - 1, shape[1])
    product, rounded = NativeLinear(weight, bias, function, rounds=True), x.bfloat16().float()
    found, residual = product(x), random(len(x), shape[0])
    torch.testing.assert_close(found, functional.linear(rounded, weight.float(), bias), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(product.add(x, residual), found + residual, atol=1e-4, rtol=1e-4)
    if shape[1] > 1:
        assert not torch.allclose(found, functional.linear(x, weight.float(), bias), atol=1e-5, rtol=1e-5)
    for rows in (1, 2, 3, 6, 7, 8, 13):
        assert torch.equal(product(x[:rows]), found[:rows]) and torch.equal(product(x[-rows:]), found[-rows:])
    many = random(2 * MANY_ROUNDED_ROWS, shape[1])
    uniform = product.uniform(1)(many)
    assert torch.equal(uniform[:5], product(many[:5]))
    torch.testing.assert_close(product(many), uniform, atol=0.05, rtol=2**-7)
    many[3, -1] = float("inf")
    assert product.uniform(1)(many).isfinite().all(1).tolist() == [i != 3 for i in range(len(many))]


@pytest.mark.parametrize("size", [9, 32, 41])
def test_inputs_are_rounded_as_torch_rounds(function: Function, size: int) -> None:
    """To the even one of two that are as near, in vectors and in what fills none; what is no number stays none."""
    if not has_rounded():
        pytest.skip("this processor does not multiply bfloat16")
    x = torch.diag(1.0 + torch.arange(size) * 2.0**-8)
    found = NativeLinear(torch.ones(1, size).bfloat16(), None, function, rounds=True)(x)
    assert torch.equal(found[:, 0], x.diag().bfloat16().float())
    # All bits of this one's fraction are set, and rounding adds to them.
    x[size - 1, size - 1] = torch.tensor(0x7FFFFFFF, dtype=torch.int32).view(torch.float32)
    broken = NativeLinear(torch.ones(1, size).bfloat16(), None, function, rounds=True)(x)
    assert broken.isfinite().flatten().tolist() == [True] * (size - 1) + [False]


@pytest.mark.parametrize("fault", ["sum", "company"])
def test_a_kernel_that_is_wrong_is_not_used(function: Function, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    def wrong(self: NativeLinear, x: torch.Tensor, added: torch.Tensor | None) -> torch.Tensor:
        assert added is not None
        product = torch.stack([self._weight.float() @ row for row in x]) + added
        return product + 1 if fault == "sum" else product * (1 + 1e-6 * len(x))

    assert float_native.is_right(function)
    monkeypatch.setattr(NativeLinear, "_product", wrong)
    assert not float_native.is_right(function)


def test_rounded_products_that_are_wrong_are_not_used(function: Function, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = can_round.__wrapped__
    assert fresh() == has_rounded()
    monkeypatch.setattr(float_native, "is_right", lambda function, rounds=False: not rounds)
    assert not fresh()
