"""Rotary position embeddings as a config.json describes them: the frequencies of each kind of scaling."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from helix_cli.model.fields import Fields
from helix_cli.model.refusals import NotNative

DEFAULT_THETA = 10000.0


class RopeScaling(Protocol):
    """How a model was stretched to a longer context."""

    def frequencies(self, periods: Tensor, theta: float) -> Tensor:
        """Inverse frequencies [rotary_dim / 2]; the plain ones would be 1 / `periods`."""
        ...

    @property
    def magnitude(self) -> float:
        """Factor on cosines and sines."""
        ...


@dataclass(frozen=True)
class LinearScaling:
    """Positions divided by `factor`."""

    factor: float
    magnitude: float = 1.0

    def frequencies(self, periods: Tensor, theta: float) -> Tensor:
        return 1.0 / periods / self.factor


@dataclass(frozen=True)
class Llama3Scaling:
    """Llama 3.1: long wavelengths are stretched by `factor`, short ones kept, those between are blended."""

    factor: float
    low: float
    high: float
    original_context: int
    magnitude: float = 1.0

    def frequencies(self, periods: Tensor, theta: float) -> Tensor:
        plain = 1.0 / periods
        wavelengths = 2 * math.pi / plain
        kept = ((self.original_context / wavelengths - self.low) / (self.high - self.low)).clamp(0, 1)
        return (1 - kept) * plain / self.factor + kept * plain


@dataclass(frozen=True)
class YarnScaling:
    """YaRN (Peng et al., arXiv 2309.00071), with the parameters of transformers."""

    factor: float
    original_context: int
    beta_fast: float
    beta_slow: float
    truncate: bool
    magnitude: float

    def frequencies(self, periods: Tensor, theta: float) -> Tensor:
        dim = 2 * len(periods)
        low, high = self._dimension(self.beta_fast, dim, theta), self._dimension(self.beta_slow, dim, theta)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, dim - 1)
        width = high - low or 0.001
        kept = 1 - ((torch.arange(len(periods), dtype=torch.float32) - low) / width).clamp(0, 1)
        return 1.0 / (self.factor * periods) * (1 - kept) + 1.0 / periods * kept

    def _dimension(self, rotations: float, dim: int, theta: float) -> float:
        """The dimension that turns `rotations` times within the original context."""
        return dim * math.log(self.original_context / (rotations * 2 * math.pi)) / (2 * math.log(theta))


@dataclass(frozen=True)
class RopeSettings:
    """The first `rotary_dim` dimensions of a head are rotated; the others pass."""

    theta: float
    rotary_dim: int
    scaling: RopeScaling | None = None

    @property
    def magnitude(self) -> float:
        """Factor on cosines and sines."""
        return self.scaling.magnitude if self.scaling else 1.0

    def frequencies(self) -> Tensor:
        """Inverse frequencies [rotary_dim / 2], in float32 and in transformers' order of operations.

        A model has only ever seen these roundings; at position 30000 another order is 0.001 radians away.
        """
        periods = self.theta ** (torch.arange(0, self.rotary_dim, 2, dtype=torch.int64).float() / self.rotary_dim)
        return self.scaling.frequencies(periods, self.theta) if self.scaling else 1.0 / periods


def read_rope(config: Fields, family: str, head_dim: int, context: int) -> RopeSettings:
    """Reads `rope_parameters`, or `rope_scaling` and `rope_theta`; raises ModelError for what is not supported."""
    rope = Fields(_given(config), f"the rotary embedding of {config.source}")
    kind = rope.text("rope_type" if "rope_type" in rope else "type", "default")
    readers = {"default": _default, "linear": _linear, "llama3": _llama3, "yarn": _yarn}
    # transformers reads "yarn" in a Phi-3 config as longrope, by history.
    if kind not in readers or (family == "phi3" and kind != "default"):
        works = "default" if family == "phi3" else ", ".join(readers)
        raise NotNative(f"The rotary embedding '{kind}' of this model is not supported.", f"These work: {works}.")
    theta = rope.number("rope_theta", config.number("rope_theta", DEFAULT_THETA))
    partial = rope.number("partial_rotary_factor", config.number("partial_rotary_factor", 1.0))
    rotary_dim = int(head_dim * partial)
    if (partial != 1 and family != "phi3") or rotary_dim % 2 or not 0 < rotary_dim <= head_dim:
        raise NotNative(f"A partial_rotary_factor of {partial} is not supported here.", "Choose another checkpoint.")
    return RopeSettings(theta, rotary_dim, readers[kind](config, rope, context))


def _given(config: Fields) -> dict[str, object]:
    name = "rope_scaling" if "rope_scaling" in config else "rope_parameters"
    given = config.values.get(name) or {}
    if not isinstance(given, dict):
        raise config.wrong(name, "an object")
    return given


def _require_only(rope: Fields, *known: str) -> None:
    """Refuses parameters that would be ignored, such as those of several kinds of layer."""
    for name, value in rope.values.items():
        if value is not None and name not in ("rope_type", "type", "rope_theta", "partial_rotary_factor", *known):
            raise NotNative(f"In {rope.source}, {name} is not supported.", "Choose another checkpoint.")


def _default(config: Fields, rope: Fields, context: int) -> None:
    _require_only(rope)


def _linear(config: Fields, rope: Fields, context: int) -> RopeScaling:
    _require_only(rope, "factor")
    return LinearScaling(_factor(rope))


def _llama3(config: Fields, rope: Fields, context: int) -> RopeScaling:
    _require_only(rope, "factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    low, high = rope.number("low_freq_factor"), rope.number("high_freq_factor")
    if low >= high:
        raise rope.wrong("high_freq_factor", f"more than low_freq_factor, {low}")
    return Llama3Scaling(_factor(rope), low, high, _original_context(config, rope, context))


def _yarn(config: Fields, rope: Fields, context: int) -> RopeScaling:
    _require_only(
        rope,
        "factor",
        "original_max_position_embeddings",
        "attention_factor",
        "beta_fast",
        "beta_slow",
        "mscale",
        "mscale_all_dim",
        "truncate",
    )
    factor = _factor(rope)
    if "attention_factor" in rope:
        magnitude = rope.number("attention_factor")
    elif rope.values.get("mscale") and rope.values.get("mscale_all_dim"):
        magnitude = _yarn_scale(factor, rope.number("mscale")) / _yarn_scale(factor, rope.number("mscale_all_dim"))
    else:
        magnitude = _yarn_scale(factor, 1.0)
    return YarnScaling(
        factor,
        _original_context(config, rope, context),
        rope.number("beta_fast", 0.0) or 32.0,
        rope.number("beta_slow", 0.0) or 1.0,
        rope.flag("truncate", True),
        magnitude,
    )


def _yarn_scale(factor: float, scale: float) -> float:
    return 0.1 * scale * math.log(factor) + 1.0 if factor > 1 else 1.0


def _factor(rope: Fields) -> float:
    factor = rope.number("factor")
    if factor <= 0:
        raise rope.wrong("factor", "positive")
    return factor


def _original_context(config: Fields, rope: Fields, context: int) -> int:
    """The context before stretching; a field beside the rope's own wins, as in transformers."""
    name = "original_max_position_embeddings"
    return config.positive(name) if name in config else rope.positive(name, context)
