"""OpenVINO GenAI for `compare_peers`: its LLMPipeline on the CPU, plain or with a draft model."""

from __future__ import annotations

import os
from importlib.metadata import version
from typing import Any

import numpy as np
import openvino
import openvino_genai

from scripts.peer_protocol import Run, Stopwatch, serve


class Streamer(openvino_genai.StreamerBase):  # type: ignore[misc]
    """Hands generated tokens to a stopwatch."""

    def __init__(self, watch: Stopwatch) -> None:
        super().__init__()
        self.watch = watch

    def write(self, token: int | list[int]) -> Any:
        """Called with the tokens of one pass."""
        self.watch.take([token] if isinstance(token, int) else list(token))
        return openvino_genai.StreamingStatus.RUNNING

    def end(self) -> None:
        """Nothing to do at the end."""


class OpenVino:
    """A pipeline over converted models."""

    def __init__(self, target: str, draft: str | None, threads: int) -> None:
        self.process = os.getpid()
        self.versions = {name: version(name) for name in ("openvino-genai", "openvino", "optimum-intel")}
        # The pipeline's own choice for one user, but without the cache of earlier prompts, which every round repeats.
        schedule = openvino_genai.SchedulerConfig()
        schedule.enable_prefix_caching = False
        schedule.max_num_batched_tokens = 2**31
        settings = {"scheduler_config": schedule, "INFERENCE_NUM_THREADS": threads}
        if draft is not None:
            settings["draft_model"] = openvino_genai.draft_model(draft, "CPU", INFERENCE_NUM_THREADS=threads)
        self.has_draft = draft is not None
        self.pipeline = openvino_genai.LLMPipeline(target, "CPU", **settings)

    def generate(self, ids: list[int], text: str, tokens: int, k: int) -> Run:
        config = openvino_genai.GenerationConfig()
        config.do_sample, config.ignore_eos, config.max_new_tokens = False, True, tokens
        if self.has_draft:
            config.num_assistant_tokens = k
        prompt = np.array([ids], dtype=np.int64)
        inputs = openvino_genai.TokenizedInputs(openvino.Tensor(prompt), openvino.Tensor(np.ones_like(prompt)))
        watch = Stopwatch()
        self.pipeline.generate(inputs, config, Streamer(watch))
        return watch.run()


if __name__ == "__main__":
    serve(OpenVino)
