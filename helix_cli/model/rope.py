"""Rotary position embeddings: the frequencies of each scaling, and one table of cosines and sines."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from helix_cli.errors import ModelError

ROPE_TYPES = ("default", "linear", "llama3", "yarn")


def inverse_frequencies(rope: dict[str, Any], rotary_dim: int, context: int) -> tuple[Tensor, float]:
    """Inverse frequencies [rotary_dim / 2] in float32, and the factor on cosines and sines.

    `rope` is normalised: `rope_type`, `rope_theta` and the parameters of the type under their Hugging Face names.
    Raises ModelError for a type that is not supported.
    """
    kind, theta = rope["rope_type"], float(rope["rope_theta"])
    frequencies = 1.0 / theta ** (torch.arange(0, rotary_dim, 2, dtype=torch.int64).float() / rotary_dim)
    if kind == "default":
        return frequencies, 1.0
    if kind == "linear":
        return frequencies / rope["factor"], 1.0
    if kind == "llama3":
        return _llama3(frequencies, rope), 1.0
    if kind == "yarn":
        return _yarn(frequencies, rope, theta, rotary_dim, context)
    raise ModelError(
        f"The position encoding '{kind}' is not supported.", f"Models with {', '.join(ROPE_TYPES)} work."
    )


def _llama3(frequencies: Tensor, rope: dict[str, Any]) -> Tensor:
    """Llama 3.1: long wavelengths are stretched by `factor`, short ones kept, those between are blended."""
    original = rope["original_max_position_embeddings"]
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    wavelengths = 2 * math.pi / frequencies
    smooth = ((original / wavelengths - low) / (high - low)).clamp(0.0, 1.0)
    return (1 - smooth) * frequencies / rope["factor"] + smooth * frequencies


def _yarn(
    frequencies: Tensor, rope: dict[str, Any], theta: float, rotary_dim: int, context: int
) -> tuple[Tensor, float]:
    """YaRN (Peng et al., arXiv 2309.00071), with the names and defaults of transformers."""
    original = rope.get("original_max_position_embeddings") or context
    factor = rope["factor"]

    def dimension(rotations: float) -> float:
        return rotary_dim * math.log(original / (rotations * 2 * math.pi)) / (2 * math.log(theta))

    low, high = dimension(rope.get("beta_fast") or 32), dimension(rope.get("beta_slow") or 1)
    if rope.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rotary_dim - 1)
    if low == high:
        high += 0.001
    ramp = ((torch.arange(rotary_dim // 2, dtype=torch.float32) - low) / (high - low)).clamp(0, 1)
    return frequencies / factor * ramp + frequencies * (1 - ramp), _yarn_factor(rope, factor)


def _yarn_factor(rope: dict[str, Any], factor: float) -> float:
    def scale(by: float, weight: float = 1.0) -> float:
        return 1.0 if by <= 1 else 0.1 * weight * math.log(by) + 1.0

    given = rope.get("attention_factor")
    if given is not None:
        return float(given)
    mscale, mscale_all = rope.get("mscale"), rope.get("mscale_all_dim")
    if mscale and mscale_all:
        return scale(factor, mscale) / scale(factor, mscale_all)
    return scale(factor)


class RotaryTable:
    """Cosines and signed sines of every position, ready for `x * cos + swapped(x) * sin`.

    `swapped` exchanges the halves of a head; the minus sign of the rotation is folded into the sine of the first half.
    """

    def __init__(self, rope: dict[str, Any], rotary_dim: int, context: int, dtype: torch.dtype, device: Any) -> None:
        frequencies, factor = inverse_frequencies(rope, rotary_dim, context)
        angles = torch.outer(torch.arange(context, dtype=torch.float32), frequencies)
        cos, sin = angles.cos() * factor, angles.sin() * factor
        self.cos = torch.cat([cos, cos], dim=-1).unsqueeze(1).to(device=device, dtype=dtype)
        self.sin = torch.cat([-sin, sin], dim=-1).unsqueeze(1).to(device=device, dtype=dtype)

    def at(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """(cos, sin), each [T, 1, rotary_dim], for positions [T]."""
        return self.cos[positions], self.sin[positions]


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates heads x [T, H, head_dim] by their positions; only the first rotary_dim of each head turn."""
    rotary_dim = cos.shape[-1]
    if rotary_dim < x.shape[-1]:
        return torch.cat([rotate(x[..., :rotary_dim], cos, sin), x[..., rotary_dim:]], dim=-1)
    swapped = x.unflatten(-1, (2, rotary_dim // 2)).flip(-2).flatten(-2)
    return torch.addcmul(x * cos, swapped, sin)
