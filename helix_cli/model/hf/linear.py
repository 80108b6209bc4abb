"""Puts Helix's products where a transformers module multiplies by a fixed matrix: float kernels, or eight bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from helix_cli.model.calibrate import fit
from helix_cli.model.int8 import Int8Linear, Int8Weight
from helix_cli.model.int8_loader import Int8Rounding, pack, unpack
from helix_cli.model.linear import Product
from helix_cli.model.weight_cache import DamagedCache

FIELD = "matrix"


class ProductModule(nn.Module):
    """A product in the place of a linear module."""

    def __init__(self, product: Product, weight: Tensor) -> None:
        super().__init__()
        self.product = product
        # Some models ask for the type or the shape of a matrix; its numbers are in the product alone.
        self.weight = torch.empty_like(weight, device="meta")

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] to [..., out]."""
        out = self.product(x.reshape(-1, x.shape[-1]))
        return out.view(*x.shape[:-1], out.shape[-1])


@dataclass(frozen=True)
class Place:
    """A linear module inside another one; it keeps no weight alive."""

    parent: nn.Module
    name: str

    @property
    def module(self) -> Any:
        """What is there now."""
        return self.parent._modules[self.name]

    def weight(self) -> Tensor:
        """[out, in]."""
        weight: Tensor = self.module.weight.detach()
        return weight if type(self.module) is nn.Linear else weight.t()

    def bias(self) -> Tensor | None:
        """[out], if there is one."""
        bias: Tensor | None = self.module.bias
        return None if bias is None else bias.detach()

    def put(self, product: Product) -> None:
        """Replaces the module."""
        self.parent._modules[self.name] = ProductModule(product, self.module.weight.detach())


def places(model: nn.Module) -> Iterator[Place]:
    """Every plain linear module, and GPT-2's Conv1D, which is one with its weight transposed."""
    from transformers.pytorch_utils import Conv1D

    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) in (nn.Linear, Conv1D):
                yield Place(parent, name)


def use_products(model: nn.Module, make: Callable[[Tensor, Tensor | None], Product]) -> None:
    """Replaces every linear module by the product that `make` gives for (weight [out, in], bias)."""
    for place in list(places(model)):
        place.put(make(place.weight(), place.bias()))


class Rounder:
    """Replaces linear modules by eight-bit products: from the cache on disk, or by running calibration text."""

    def __init__(self, rounding: Int8Rounding, make: Callable[[Tensor, Tensor | None], Product]) -> None:
        """`make` gives the float product of a matrix that eight bits do not do."""
        self._rounding, self._make = rounding, make

    def round(self, model: nn.Module, run: Callable[[], object], tell: Callable[[str], None]) -> None:
        """`run` computes the calibration text; `tell` hears of a cache that was damaged or could not be written."""
        cache = self._rounding.cache
        if cache.present:
            try:
                self._from_cache(list(places(model)))
                return
            except DamagedCache as error:
                tell(f"The cached eight-bit weights are made anew: {error}.")
                cache.discard()
        found = self._fit(list(places(model)), run)
        try:
            with cache.writing() as writer:
                for index, weight in enumerate(found):
                    writer.write(_part(index), pack(FIELD, weight))
        except OSError as error:
            tell(f"The eight-bit weights could not be kept for the next start: {error.strerror or error}.")

    def _from_cache(self, found: list[Place]) -> None:
        """All parts are read before the first module is replaced."""
        kernel = self._rounding.kernel
        read = self._rounding.cache.read
        products = [unpack(read(_part(i)), FIELD, place.bias, kernel) for i, place in enumerate(found)]
        for place, product in zip(found, products, strict=True):
            place.put(product or self._make(place.weight(), place.bias()))

    def _fit(self, found: list[Place], run: Callable[[], object]) -> list[Int8Weight | None]:
        """Each matrix is judged by what really comes in, and its float weights are let go of at once."""
        weights: list[Int8Weight | None] = [None] * len(found)

        def judge(index: int) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
            def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
                place = found[index]
                if place.module is not module:
                    return  # called a second time in one pass
                inside = inputs[0].reshape(-1, inputs[0].shape[-1])
                weights[index] = fit(place.weight(), inside, self._rounding.kernel)
                place.put(self._product(place, weights[index]))

            return hook

        handles = [place.module.register_forward_hook(judge(index)) for index, place in enumerate(found)]
        run()
        for handle in handles:
            handle.remove()
        for place in found:
            if not isinstance(place.module, ProductModule):  # never reached by the text
                place.put(self._make(place.weight(), place.bias()))
        return weights

    def _product(self, place: Place, weight: Int8Weight | None) -> Product:
        if weight is None:
            return self._make(place.weight(), place.bias())
        return Int8Linear(weight, place.bias(), self._rounding.kernel)


def _part(index: int) -> str:
    return f"part-{index:04}"
