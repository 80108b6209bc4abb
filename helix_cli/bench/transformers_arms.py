"""transformers as an arm: `generate` on the same checkpoints, with or without the draft as its assistant."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from transformers.generation.stopping_criteria import StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from helix_cli.bench.arms import NotPossible
from helix_cli.bench.schema import ModelFacts, Setup, Text
from helix_cli.core import SamplingParams
from helix_cli.errors import Interrupted
from helix_cli.stats import Trace

if TYPE_CHECKING:
    from helix_cli.bench.workloads import Job

NO_BLOCKS = 1
"""transformers keeps one growing cache a text: no blocks to count."""

PAGE_SIZE = 256
"""Positions in a page of transformers' batches: its own default."""
BATCH_TOKENS = 512
"""Tokens that one of its steps computes at most: as many as a step of Helix does unless told otherwise."""


class Streamer(BaseStreamer):
    """Writes what `generate` hands out into a trace; its first call brings the prompt."""

    def __init__(self, num_prompt_tokens: int) -> None:
        self.trace = Trace(num_prompt_tokens, NO_BLOCKS, submitted=time.perf_counter())
        self._is_prompt = True

    def put(self, value: Any) -> None:
        """Called with the tokens of one pass."""
        count = int(value.numel())
        if not self._is_prompt and count:
            self.trace.record_commit(time.perf_counter(), count)
        self._is_prompt = False

    def end(self) -> None:
        """Nothing to do at the end."""


class StopWhen(StoppingCriteria):
    """Ends a generation when somebody asks for it."""

    def __init__(self, stopped: Callable[[], bool]) -> None:
        self._stopped = stopped

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> Any:
        """Whether each text of the batch [B] must end."""
        return torch.full((input_ids.shape[0],), self._stopped(), dtype=torch.bool, device=input_ids.device)


@dataclass
class Checkpoints:
    """Target and draft as transformers loads them, each once however many arms use it."""

    target: Path
    draft: Path | None
    dtype: torch.dtype
    device: torch.device
    _loaded: dict[Path, Any] = field(default_factory=dict)

    def load(self, path: Path) -> Any:
        """The model, generating past every end-of-text token."""
        if path not in self._loaded:
            transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
            # Batches have a logger of their own, and what it says of packages that are not there is no finding.
            logging.getLogger("ContinuousBatchingLogger").setLevel(logging.CRITICAL)
            transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
            load: Any = transformers.AutoModelForCausalLM.from_pretrained
            settings: Any = transformers.GenerationConfig
            model = load(path, dtype=self.dtype).to(self.device).eval()
            model.generation_config = settings(pad_token_id=0)
            model.config.eos_token_id = None
            self._loaded[path] = model
        return self._loaded[path]


class TransformersArm:
    """One text through `generate` with a streamer, several through `generate_batch`."""

    def __init__(
        self,
        name: str,
        checkpoints: Checkpoints,
        params: SamplingParams,
        k: int | str | None,
        stopped: Callable[[], bool],
        setup: Setup,
        impossible: str = "",
    ) -> None:
        """With `k` the draft proposes that many tokens a round; None generates plainly. `stopped` is asked a token.

        `impossible` says why it cannot do anything, if so.
        """
        self.name = name
        self._checkpoints, self._params, self._k = checkpoints, params, k
        self._stopped, self._setup, self._impossible = stopped, setup, impossible

    def open(self) -> float:
        begun = time.perf_counter()
        with _stdout_on_stderr():
            self._target()
            if self._k is not None:
                self._assistant(self._k)
        return time.perf_counter() - begun

    @torch.no_grad()
    def run(self, job: Job) -> list[Text]:
        if self._impossible:
            raise NotPossible(self._impossible)
        with _stdout_on_stderr():
            texts = [self._one(job)] if len(job.prompts) == 1 else self._together(job)
        if self._stopped():
            raise Interrupted
        return texts

    def setup(self) -> Setup:
        return replace_weights(self._setup, self._target(), self._k and self._assistant(self._k))

    def _target(self) -> Any:
        return self._checkpoints.load(self._checkpoints.target)

    def _assistant(self, k: int | str) -> Any:
        assert self._checkpoints.draft is not None, "an assisted arm has a draft"
        model = self._checkpoints.load(self._checkpoints.draft)
        if isinstance(k, int):  # Otherwise the depth is its own business, as it is Helix's.
            settings = model.generation_config
            settings.num_assistant_tokens, settings.num_assistant_tokens_schedule = k, "constant"
            # The confidence threshold would end a draft early.
            settings.assistant_confidence_threshold = 0.0
        return model

    def _one(self, job: Job) -> Text:
        if self._params.seed is not None:
            torch.manual_seed(self._params.seed)
        prompt = torch.tensor([job.prompts[0]], device=self._checkpoints.device)
        streamer = Streamer(prompt.shape[1])
        extra = {} if self._k is None else {"assistant_model": self._assistant(self._k)}
        output = self._target().generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=job.max_tokens,
            streamer=streamer,
            stopping_criteria=StoppingCriteriaList([StopWhen(self._stopped)]),
            **sampling(self._params),
            **extra,
        )
        return Text.of(streamer.trace, tuple(output[0, prompt.shape[1] :].tolist()))

    def _together(self, job: Job) -> list[Text]:
        if self._k is not None:
            raise NotPossible("transformers' assisted generation takes one text at a time")
        settings: Any = transformers.GenerationConfig
        config = settings(max_new_tokens=job.max_tokens, pad_token_id=0, eos_token_id=-1, **sampling(self._params))
        asked = time.perf_counter()
        found = self._target().generate_batch(
            [list(prompt) for prompt in job.prompts],
            generation_config=config,
            continuous_batching_config=batching(job),
            record_timestamps=True,
            warmup=False,
        )
        outputs = list(found.values())
        problem = next((one.error for one in outputs if one.error), None)
        if problem is not None or len(outputs) != len(job.prompts):
            raise RuntimeError(problem or f"generate_batch gave {len(outputs)} of {len(job.prompts)} texts")
        return [_batched(prompt, one, asked) for prompt, one in zip(job.prompts, outputs, strict=True)]


def sampling(params: SamplingParams) -> dict[str, Any]:
    """The arguments of `generate` that mean the same; temperature 0 is greedy."""
    penalty = {"repetition_penalty": params.repetition_penalty}
    if params.temperature == 0.0:
        return {"do_sample": False, **penalty}
    chain = {"temperature": params.temperature, "top_k": params.top_k, "top_p": params.top_p, "min_p": params.min_p}
    return {"do_sample": True, **chain, **penalty}


def batching(job: Job) -> Any:
    """A cache that holds the job and no more: left alone, transformers takes most of the free memory, and its time."""
    positions = [len(prompt) + job.max_tokens for prompt in job.prompts]
    settings: Any = transformers.ContinuousBatchingConfig
    return settings(
        page_size=PAGE_SIZE,
        num_blocks=sum(-(-length // PAGE_SIZE) + 1 for length in positions),
        max_batch_tokens=max(BATCH_TOKENS, len(positions)),
        allow_block_sharing=False,
    )


def replace_weights(setup: Setup, target: Any, draft: Any) -> Setup:
    """The setup with the weights that a pass of transformers' models reads, and the type that it computes in."""
    own = _facts(setup.target, target)
    facts = {"target": own, "draft": draft and setup.draft and _facts(setup.draft, draft), "dtype": own.weights}
    return setup.model_copy(update=facts)


def _facts(known: ModelFacts, model: Any) -> ModelFacts:
    linear = [one.weight for one in model.modules() if isinstance(one, torch.nn.Linear)]
    num_bytes = sum(weight.numel() * weight.element_size() for weight in linear)
    dtype = str(model.dtype).removeprefix("torch.")
    return known.model_copy(update={"weights": dtype, "weight_bytes": num_bytes})


def _batched(prompt: tuple[int, ...], output: Any, asked: float) -> Text:
    trace = Trace(len(prompt), NO_BLOCKS, submitted=asked)
    for at in output.timestamps or ():
        trace.record_commit(at, 1)
    return Text.of(trace, tuple(output.generated_tokens))


@contextmanager
def _stdout_on_stderr() -> Iterator[None]:
    """stdout is for results; what the library prints goes to stderr."""
    with redirect_stdout(sys.stderr):
        yield
