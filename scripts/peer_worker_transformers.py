"""transformers for `compare_peers`: `generate`, plain or with an assistant model that drafts a constant number."""

from __future__ import annotations

import os
from typing import Any

import torch
import transformers
from transformers.generation.streamers import BaseStreamer

from scripts.peer_protocol import Run, Stopwatch, serve


class Streamer(BaseStreamer):
    """Hands generated tokens to a stopwatch; the first call brings the prompt."""

    def __init__(self, watch: Stopwatch) -> None:
        self.watch = watch
        self.is_prompt = True

    def put(self, value: Any) -> None:
        """Called with the tokens of one pass."""
        if not self.is_prompt:
            self.watch.take(value.flatten().tolist())
        self.is_prompt = False

    def end(self) -> None:
        """Nothing to do at the end."""


class Transformers:
    """A model and, where there is one, its assistant."""

    def __init__(self, target: str, draft: str | None, dtype: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self.process = os.getpid()
        self.versions = {"transformers": transformers.__version__, "torch": torch.__version__}
        self.model = load_model(target, dtype)
        self.assistant = None if draft is None else load_model(draft, dtype)

    @torch.no_grad()
    def generate(self, ids: list[int], text: str, tokens: int, k: int) -> Run:
        extra = {}
        if self.assistant is not None:
            # The confidence threshold would end a draft early; the depth is to be k.
            settings = self.assistant.generation_config
            settings.num_assistant_tokens, settings.num_assistant_tokens_schedule = k, "constant"
            settings.assistant_confidence_threshold = 0.0
            extra["assistant_model"] = self.assistant
        prompt = torch.tensor([ids])
        watch = Stopwatch()
        self.model.generate(
            prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=tokens,
            streamer=Streamer(watch), **extra,
        )  # fmt: skip
        return watch.run()


def load_model(path: str, dtype: str) -> Any:
    """A checkpoint that generates greedily past every end-of-text token."""
    load: Any = transformers.AutoModelForCausalLM.from_pretrained
    settings: Any = transformers.GenerationConfig
    model = load(path, dtype=getattr(torch, dtype)).eval()
    model.generation_config = settings(pad_token_id=0)
    model.config.eos_token_id = None
    return model


if __name__ == "__main__":
    serve(Transformers)
