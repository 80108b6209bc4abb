"""A model made of transformers' modules, over Helix's pool; it stands where the native decoder stands."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from helix_cli.attention.torch_general import GeneralPaged
from helix_cli.cache.paged import KVShape, PagedKVCache
from helix_cli.errors import Interrupted, ModelError
from helix_cli.model.batch import Batch
from helix_cli.model.hf.attention import Answer, Call, answering
from helix_cli.model.hf.config import HFArchitecture
from helix_cli.model.hf.linear import ProductModule
from helix_cli.model.language_model import Forward


@dataclass(frozen=True)
class HFDecoder:
    """A loaded model; see `LanguageModel`. All sequences of a pass are one row, told apart by `position_ids`."""

    architecture: HFArchitecture
    dtype: torch.dtype
    device: torch.device
    fused_attention: bool
    module: Any
    """The PreTrainedModel, whose attention implementation is Helix's."""
    kv_shapes: tuple[KVShape, ...]
    kernel: str = "transformers"

    @property
    def embedding(self) -> Tensor:
        """[vocab_size, hidden]."""
        weight: Tensor = self.module.get_input_embeddings().weight
        return weight

    @cached_property
    def num_bytes(self) -> int:
        """Bytes of matrices that a pass reads; of a layer with experts all of them."""
        embedding = self.embedding
        products = {module.product for module in self.module.modules() if isinstance(module, ProductModule)}
        head = getattr(self.module.get_output_embeddings(), "weight", None)
        # An embedding is looked up; only a head that is tied to it is read as a whole.
        plain = [one for one in self.module.parameters() if one.ndim > 1 and (one is not embedding or one is head)]
        num_bytes: int = sum(one.num_bytes for one in products) + sum(one.numel() * one.itemsize for one in plain)
        return num_bytes

    def over(self, cache: PagedKVCache) -> Forward:
        """See `LanguageModel`."""
        kernel = GeneralPaged(cache.layers, self.kv_shapes, cache.block_size, self.fused_attention)

        def forward(batch: Batch, interrupted: Callable[[], bool]) -> Tensor:
            plan = kernel.plan(batch.spans)

            def answer(call: Call) -> Tensor:
                if interrupted():
                    raise Interrupted
                assert call.layer is not None, "the guard has seen every layer's index"
                return plan(call.layer, call.queries, call.keys, call.values, call.form)

            return self.logits(batch, answer)

        return forward

    @torch.no_grad()
    def logits(self, batch: Batch, answer: Answer) -> Tensor:
        """Logits [R, vocab_size] in float32 of the tokens that the batch asks for, with attention by `answer`."""
        positions = [span.first + offset for span in batch.spans for offset in range(span.length)]
        rows = self._wanted(batch)
        # A head of no rows is not every model's: then one row is computed, and dropped.
        kept = rows if len(rows) else torch.zeros(1, dtype=torch.int64, device=self.device)
        keep = {"logits_to_keep": kept} if self._keeps_logits else {}
        with answering(answer):
            logits = self.module(
                input_ids=batch.tokens[None],
                position_ids=torch.tensor([positions], device=self.device),
                use_cache=False,
                **keep,
            ).logits[0]
        found: Tensor = logits if self._keeps_logits else logits[kept]
        return found[: len(rows)].float()

    def truncated(self, num_layers: int) -> HFDecoder:
        """The first layers with the same embedding, norm and head; no weight is copied. Raises ModelError."""
        from helix_cli.model.hf import guard

        shape = self.architecture
        if not 1 <= num_layers <= shape.num_layers:
            raise ModelError(
                f"A model of {shape.num_layers} layers cannot be cut to {num_layers}.",
                f"Choose between 1 and {shape.num_layers}.",
            )
        path = self._layer_list()
        if path is None:
            raise ModelError(
                f"The layers of {shape.name} are not in one list, so it cannot be cut.", "Use --drafter ngram."
            )
        shorter = replace(
            self,
            architecture=replace(shape, num_layers=num_layers),
            module=_shorter(self.module, path.split("."), num_layers),
            kv_shapes=self.kv_shapes[:num_layers],
        )
        guard.run(shorter)
        return shorter

    @cached_property
    def _keeps_logits(self) -> bool:
        return "logits_to_keep" in inspect.signature(self.module.forward).parameters

    def _wanted(self, batch: Batch) -> Tensor:
        """Which tokens' logits are asked for, int64 [R]."""
        if isinstance(batch.wanted, Tensor):
            return batch.wanted
        wanted = batch.wanted or slice(0, sum(span.length for span in batch.spans))
        return torch.arange(wanted.start, wanted.stop, device=self.device)

    def _layer_list(self) -> str | None:
        """Where the layers lie in the module, as in `model.layers`; None where there is no one list of them."""
        path: str
        for path, module in self.module.named_modules():
            if not isinstance(module, nn.ModuleList) or len(module) != self.architecture.num_layers:
                continue
            if all(index in _layer_indices(layer) for index, layer in enumerate(module)):
                return path
        return None


def _layer_indices(module: nn.Module) -> Iterator[int]:
    return (getattr(one, "layer_idx", -1) for one in module.modules())


def _shorter(module: Any, path: list[str], count: int) -> Any:
    """A copy of the modules along `path`, with a list of `count` layers at its end; all others are shared."""
    if not path:
        return nn.ModuleList(list(module)[:count])
    other = copy.copy(module)
    other._modules = dict(module._modules)
    other._modules[path[0]] = _shorter(module._modules[path[0]], path[1:], count)
    return other
