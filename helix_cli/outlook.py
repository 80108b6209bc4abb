"""What a config would take of its device: known from config files and headers, before a weight is read."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

from helix_cli.assembly import Source, check_early_exit, checkpoint_path
from helix_cli.backend import open_backend
from helix_cli.config import Config
from helix_cli.drafter_choice import WITH_A_MODEL
from helix_cli.errors import MemoryLimitError
from helix_cli.model.architecture import Architecture
from helix_cli.model.checkpoint import CONFIGS
from helix_cli.model.implementation import read_shape
from helix_cli.model.loader import check_tensors
from helix_cli.model.opening import ModelOpener
from helix_cli.model.weights import Weights
from helix_cli.planning.any_model import num_parameters
from helix_cli.planning.from_config import plan_memory, planned_models
from helix_cli.planning.memory import MemoryPlan
from helix_cli.planning.refusal import check_room
from helix_cli.storage import Storage

SHORTEST: Final = 2048
BATCHES: Final = (1, 4, 16)
"""A plan is asked about contexts from the shortest on, in powers of two, and about so many texts at one time."""


@dataclass(frozen=True)
class Case:
    """So many texts of one length at one time: bytes of their keys and values, and whether they can run."""

    context: int
    texts: int
    cache_bytes: int
    fits: bool


@dataclass(frozen=True)
class Outlook:
    """A plan, the names that people know its models by, and what follows from it."""

    plan: MemoryPlan
    device: str
    total: int | None
    """Bytes of the device's memory, where it says."""
    names: tuple[str, ...]
    parameters: tuple[int, ...]
    """Of the models, in the plan's order; an early exit has the target's."""
    notes: tuple[str, ...]
    refusal: MemoryLimitError | None
    """What the loader would say."""

    @property
    def cases(self) -> list[Case]:
        """Every context with every number of texts that the engine takes."""
        plan, most = self.plan, self.plan.step.texts
        batches = sorted({min(one, most) for one in BATCHES})
        return [
            Case(context, texts, plan.cache_bytes(context, texts), plan.holds(context, texts))
            for context in contexts(plan.models[0].widths.context)
            for texts in batches
        ]

    @property
    def longest(self) -> int:
        """The longest text that can run alone, in positions; 0 where none can."""
        plan = self.plan
        low, high = 0, plan.models[0].widths.context
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if plan.holds(middle, 1) else (low, middle - 1)
        return low

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, all sizes in bytes."""
        plan = self.plan
        models = zip(plan.models, self.names, self.parameters, strict=True)
        return {
            "device": self.device,
            "total": self.total,
            "free": plan.free,
            "models": [
                {
                    "role": one.role,
                    "name": name,
                    "parameters": parameters,
                    "dtype": str(one.dtype).removeprefix("torch."),
                    "weights": one.weights,
                    "weight_bytes": one.size.kept,
                    "weight_bytes_by_format": {name: size.kept for name, size in one.formats.items()},
                    "kv_bytes_per_token": one.kv_bytes_per_token,
                    "context": one.widths.context,
                }
                for one, name, parameters in models
            ],
            "step": asdict(plan.step) | {"logits": plan.logits, "activations": plan.activations},
            "cache": {
                "block_size": plan.block_size,
                "block_bytes": plan.block_bytes,
                "num_blocks": plan.num_blocks,
                "memory_share": plan.memory_share,
            },
            "least": plan.least,
            "fits": self.refusal is None,
            "longest": self.longest,
            "cases": [asdict(case) for case in self.cases],
            "refusal": None if self.refusal is None else [self.refusal.message, self.refusal.hint],
            "notes": list(self.notes),
        }


def look_ahead(config: Config) -> Outlook:
    """The outlook of a config. Raises a HelixError for models or a device that are not there."""
    draft_name = config.draft.path if config.draft.kind in WITH_A_MODEL else None
    target = _find(config.model.path, "target", config.model.implementation)
    draft = _find(draft_name, "draft") if draft_name else None
    check_early_exit(config, target.architecture)
    backend = open_backend(config.backend.device, config.backend.threads)
    opener = ModelOpener(backend, Storage(), lambda path: [])
    models = planned_models(config, backend, opener, target.architecture, draft.architecture if draft else None)
    plan = plan_memory(config, backend, models)
    refusal = None
    try:
        check_room(plan, backend.description)
    except MemoryLimitError as error:
        refusal = error
    sources = [target, draft or target][: len(models)]
    return Outlook(
        plan=plan,
        device=backend.description,
        total=backend.total_memory(),
        names=(config.model.path, draft_name or f"the first layers of {config.model.path}")[: len(models)],
        parameters=tuple(num_parameters(source.architecture) for source in sources),
        notes=(*backend.notes, *opener.notes),
        refusal=refusal,
    )


def contexts(longest: int) -> list[int]:
    """From 2048 positions on in powers of two, and the model's own limit last."""
    powers = [SHORTEST << place for place in range(longest.bit_length()) if SHORTEST << place < longest]
    return [*powers, longest]


def _find(name: str, role: str, implementation: str = "auto") -> Source:
    """A checkpoint of which nothing but its config is needed; weights that are there must be those it describes."""
    path = checkpoint_path(name, role, CONFIGS)
    architecture = read_shape(path, implementation)
    if isinstance(architecture, Architecture) and any(path.glob("*.safetensors")):
        check_tensors(Weights(path), architecture)
    return Source(path, architecture)
