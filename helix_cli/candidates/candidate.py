"""What a checkpoint would be as a draft: read from its headers, config and tokenizer, without a single weight."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from helix_cli.backend import Backend
from helix_cli.candidates.search import Found
from helix_cli.errors import HelixError
from helix_cli.model.formats import choose_dtype
from helix_cli.model.implementation import read_shape
from helix_cli.model.weights import Weights
from helix_cli.planning.any_model import kv_values
from helix_cli.tokenizer import Side, Tokenizer
from helix_cli.vocabulary_choice import pair_sides, refuse, side_of


@dataclass(frozen=True)
class Facts:
    """A checkpoint that can be loaded, as far as its headers say."""

    path: Path
    num_parameters: int
    num_bytes: int
    """Of the weights, as they are stored."""
    kv_bytes_per_token: int
    context: int
    side: Side


@dataclass(frozen=True)
class Candidate:
    """A checkpoint, and whether it can draft: `refusal` says why not. What is not known of it is None."""

    name: str
    path: str
    refusal: str | None = None
    num_parameters: int | None = None
    size_ratio: float | None = None
    """Its parameters as a share of the target's."""
    num_bytes: int | None = None
    """What its weights take as they are stored."""
    kv_bytes_per_token: int | None = None
    """What its keys and values add for every token of the text."""
    context: int | None = None
    vocabulary: str | None = None
    """same, mapped, or shared."""
    num_shared: int | None = None
    """Tokens that it shares with the target."""
    coverage: float | None = None
    """The share of the target's tokens of ordinary text that they make."""
    words: str = ""
    """The same in words."""

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        values = asdict(self)
        del values["words"]
        return values


def read_facts(path: Path, backend: Backend) -> Facts:
    """What the headers of a checkpoint say; raises ModelError for one that cannot be loaded."""
    shape = read_shape(path)
    num_parameters, num_bytes = Weights(path).size()
    dtype = choose_dtype("auto", shape.dtype, backend)
    return Facts(
        path=path,
        num_parameters=num_parameters,
        num_bytes=num_bytes,
        kv_bytes_per_token=kv_values(shape) * dtype.itemsize,
        context=shape.context,
        side=side_of(path, Tokenizer(path), shape.vocab_size),
    )


def examine(found: Found, target: Facts, backend: Backend) -> Candidate:
    """Whether a checkpoint can draft for `target`. Whatever is wrong with it becomes its refusal."""
    named = Candidate(found.name, str(found.path))
    if found.problem:
        return refused(named, found.problem)
    if found.path.resolve() == target.path.resolve():
        return refused(named, "It is the target itself.")
    try:
        return _judge(named, read_facts(found.path, backend), target)
    except HelixError as error:
        return refused(named, error.message)
    except Exception as error:  # a damaged file fails in as many ways as there are readers
        return refused(named, f"It cannot be read: {type(error).__name__}: {' '.join(str(error).split())[:200]}")


def _judge(named: Candidate, draft: Facts, target: Facts) -> Candidate:
    pairing = pair_sides(target.side, draft.side)
    told = Candidate(
        name=named.name,
        path=named.path,
        num_parameters=draft.num_parameters,
        size_ratio=draft.num_parameters / target.num_parameters,
        num_bytes=draft.num_bytes,
        kv_bytes_per_token=draft.kv_bytes_per_token,
        context=draft.context,
        vocabulary=pairing.relation,
        num_shared=pairing.num_shared,
        coverage=pairing.coverage,
        words=str(pairing),
    )
    if draft.num_parameters >= target.num_parameters:
        return refused(told, "It is no smaller than the target.")
    refusal = refuse("auto", pairing)
    return told if refusal is None else refused(told, refusal.message)


def refused(candidate: Candidate, reason: str) -> Candidate:
    """The same, with a reason why it cannot draft."""
    return replace(candidate, refusal=reason)
