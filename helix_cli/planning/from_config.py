"""From a config and the shapes of its models to a plan of the memory; what is chosen by measuring is measured."""

from __future__ import annotations

from helix_cli.backend import Backend
from helix_cli.config import Config
from helix_cli.draft.auto_depth import MAX_DEPTH
from helix_cli.drafter_choice import early_exit_layers
from helix_cli.model.implementation import AnyShape
from helix_cli.model.opening import ModelChoice, ModelOpener
from helix_cli.planning.any_model import first_layers
from helix_cli.planning.memory import MemoryPlan, ModelMemory, model_memory
from helix_cli.planning.sizes import Step, WeightSize


def plan_memory(config: Config, backend: Backend, models: tuple[ModelMemory, ...]) -> MemoryPlan:
    """What these models take beside what the config says of cache and engine, against what is free now."""
    return MemoryPlan(
        models=models,
        step=largest_step(config, models[0].widths.context),
        fused_attention=backend.fused_attention,
        mixed_products=backend.mixed_products,
        block_size=config.cache.block_size,
        memory_share=config.cache.memory_share,
        fixed_blocks=config.cache.blocks,
        free=backend.free_memory(),
    )


def planned_models(
    config: Config, backend: Backend, opener: ModelOpener, target: AnyShape, draft: AnyShape | None
) -> tuple[ModelMemory, ...]:
    """The models that the config would load, in the formats that the opener would choose. Raises DeviceError."""
    chosen = opener.choose(target, ModelChoice(config.model.dtype, config.model.weights, is_draft=False))
    first = model_memory("target", target, *chosen, backend)
    if draft is not None:
        choice = ModelChoice(config.draft.dtype, config.draft.weights, is_draft=True)
        return first, model_memory("draft", draft, *opener.choose(draft, choice), backend)
    if config.draft.kind != "early_exit":
        return (first,)
    shorter = first_layers(target, early_exit_layers(config.draft.layers, target.num_layers))
    return first, ModelMemory("draft", *shorter, first.dtype, first.weights, WeightSize(0))


def largest_step(config: Config, context: int) -> Step:
    """The most that one step of the engine computes."""
    depth = 0 if config.draft.kind == "none" else config.draft.k if isinstance(config.draft.k, int) else MAX_DEPTH
    return Step(min(config.engine.max_step_tokens, context), config.engine.max_sequences, depth)
