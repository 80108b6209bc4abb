"""What the checks look at: a config, the models that it names, and what several checks share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from helix_cli.assembly import DEMO_PAIR, Source, vocabulary_of_pair
from helix_cli.backend import NUMBER_TYPES, Backend, open_backend
from helix_cli.checks.check import Skip
from helix_cli.checks.effort import Effort
from helix_cli.checks.texts import LONG, PROMPTS
from helix_cli.checks.workbench import Workbench, build, scores
from helix_cli.config import Config
from helix_cli.core import Request, SamplingParams
from helix_cli.core import Sequence as EngineSequence
from helix_cli.draft.model import ModelDrafter
from helix_cli.draft.vocabulary import Vocabulary
from helix_cli.drafter_choice import DEMO
from helix_cli.errors import HelixError
from helix_cli.model.checkpoint import resolve
from helix_cli.model.implementation import read_shape
from helix_cli.model.language_model import LanguageModel
from helix_cli.model.products import rounds_inputs
from helix_cli.session import Session, open_session
from helix_cli.tokenizer import Tokenizer
from helix_cli.vocabulary_choice import VocabularyChoice

BLOCK_SIZE = 16
K = 4
LONGEST_PROMPT = 96
"""Tokens kept of a prompt that ships with the checks: they are about what follows it."""

TOLERANCES = {"float32": 1e-3, "float16": 0.05, "bfloat16": 0.3, "int8": 0.3}
"""The largest difference between two ways to compute one logit that rounding explains, in standard deviations.

Float sums in another order differ by 1e-6 to 1e-5 of the logits' deviation; a wrong mask or a wrong slot moves them by
a tenth and more. Eight-bit inputs may be rounded to the other side, and 16-bit types keep two or three digits.
"""


@dataclass(frozen=True)
class Completed:
    """How a run of `helix` ended."""

    code: int
    out: bytes
    err: str


@dataclass
class Subject:
    """Everything that a check may read. Models are opened when the first check asks for them."""

    config: Config
    effort: Effort
    seed: int
    helix: Callable[[Sequence[str], bytes], Completed]
    """Runs the program with these arguments and this stdin."""
    processes: int = 1
    """Runs of the program that may go on at the same time."""
    own_prompts: tuple[str, ...] = ()
    """The user's; used beside those that ship with the checks."""
    unopened: HelixError | None = None
    """Why the models could not be opened, once that was tried."""
    memory: dict[str, Any] = field(default_factory=dict)
    """What one check has computed and others use; see `remember`."""

    def find_models(self) -> None:
        """Looks for the folders of both models; raises ModelError."""
        assert self.target_path and self.draft_path != Path()

    @cached_property
    def target_path(self) -> Path:
        """The folder of the target; raises ModelError."""
        return _folder(self.config.model.path, "target")

    @cached_property
    def draft_path(self) -> Path | None:
        """The folder of the draft model, if there is one; raises ModelError."""
        name = self.config.draft.path
        return None if name is None else _folder(name, "draft")

    @cached_property
    def backend(self) -> Backend:
        """The device, as a session would open it."""
        return open_backend(self.config.backend.device, self.config.backend.threads)

    @cached_property
    def session(self) -> Session:
        """The models and an engine, as every command gets them; raises Skip where they cannot be opened."""
        if self.unopened is None:
            try:
                return open_session(self.config)
            except HelixError as error:
                self.unopened = error
        raise Skip(f"The models could not be opened: {self.unopened.message}")

    @cached_property
    def target(self) -> LanguageModel:
        """The target, as loaded."""
        return self.session.engine.runner.decoder

    @cached_property
    def draft(self) -> LanguageModel | None:
        """The draft model, as loaded; None where the config has none."""
        drafter = self.session.engine.drafter
        own = drafter if isinstance(drafter, ModelDrafter) else getattr(drafter, "model", None)
        return own.runner.decoder if isinstance(own, ModelDrafter) and self.draft_path is not None else None

    @cached_property
    def vocabulary_of(self) -> Callable[[EngineSequence], Vocabulary] | None:
        """How the draft model talks of a text; None where it means the same by every id, or there is none."""
        return None if self.draft is None or self.vocabulary is None else self.vocabulary.of

    @cached_property
    def vocabulary(self) -> VocabularyChoice | None:
        """How the draft's tokenizer corresponds to the target's; None without a draft model. Raises ModelError."""
        if self.draft_path is None:
            return None
        target = Source(self.target_path, read_shape(self.target_path, self.config.model.implementation))
        draft = Source(self.draft_path, read_shape(self.draft_path))
        return vocabulary_of_pair(self.config, self.tokenizer, target, draft)

    @cached_property
    def formats(self) -> dict[str, str]:
        """How the matrices of target and draft are stored."""
        info = self.session.info
        return {"target": info.weights} | ({"draft": info.draft_weights} if info.draft_weights else {})

    @cached_property
    def exact(self) -> bool:
        """Whether exact mode is on, so that equal means equal bits."""
        return self.session.info.exact

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The target's."""
        return Tokenizer(self.target_path)

    @cached_property
    def eos_ids(self) -> frozenset[int]:
        """Tokens that end a text."""
        return self.session.engine.scheduler.eos_ids

    @cached_property
    def prompts(self) -> list[tuple[int, ...]]:
        """Token ids of the prompts, each short enough for an answer to fit behind it."""
        room = self.target.architecture.context - self.effort.num_tokens - K - 1
        longest = min(LONGEST_PROMPT, room)
        if longest < 1:
            raise Skip(f"A context of {self.target.architecture.context} tokens is too short for these checks.")
        shipped = [self.tokenizer.encode(text)[:longest] for text in PROMPTS[: self.effort.num_prompts]]
        own = [self.tokenizer.encode(text)[:room] for text in self.own_prompts]
        return [tuple(tokens) for tokens in [*own, *shipped] if tokens]

    @cached_property
    def plain(self) -> list[list[int]]:
        """The greedy text after each prompt, written alone and without a draft; EOS does not end it."""
        params = SamplingParams(max_tokens=self.effort.num_tokens, ignore_eos=True)
        return [self.bench().run([Request(prompt, params)])[0].tokens for prompt in self.prompts]

    @cached_property
    def long_text(self) -> list[int]:
        """A few hundred tokens of ordinary text."""
        tokens = self.tokenizer.encode(LONG * 4)
        return tokens[: min(256, self.target.architecture.context - 1)]

    @property
    def number_format(self) -> str:
        """The coarsest type that the target's numbers go through."""
        weights, dtype = self.formats["target"], str(self.target.dtype).removeprefix("torch.")
        if weights == "int8":
            return weights
        return weights if rounds_inputs(NUMBER_TYPES[weights], self.backend) else dtype

    def tolerance(self, logits: Any) -> float:
        """The largest difference of a logit that rounding explains; see TOLERANCES."""
        return TOLERANCES[self.number_format] * float(logits.float().std())

    def bench(self, drafter: Any = "none", k: int = K, **settings: Any) -> Workbench:
        """An engine over the loaded models, with caches of its own."""
        length = max(map(len, self.prompts)) + self.effort.num_tokens + K + 1
        defaults: dict[str, Any] = {
            "eos_ids": self.eos_ids,
            "draft": self.draft,
            "vocabulary_of": self.vocabulary_of,
            "block_size": BLOCK_SIZE,
            "num_blocks": (len(self.prompts) + 1) * -(-length // BLOCK_SIZE),
            "max_step_tokens": 512,
            "max_sequences": len(self.prompts) + 1,
            "context": self.target.architecture.context,
        }
        return build(self.target, drafter, k, **(defaults | settings))

    def noise(self) -> float:
        """The largest difference of a logit between two ways to cut a text into passes, measured once.

        Blocks of K + 1 rows may be those of a draft, and are taken as they are. What a prompt in chunks adds may be a
        fault of another kind (see numerics.chunks), and excuses no more than rounding explains.
        """
        return float(self.remember("noise", self._measure_noise))

    def _measure_noise(self) -> float:
        from helix_cli.checks.numerics import block_difference, chunk_difference

        blocks = self.remember("blocks", lambda: block_difference(self))
        chunks = self.remember("chunks", lambda: chunk_difference(self))
        return float(max(blocks.largest, min(chunks.largest, TOLERANCES[self.number_format] * chunks.deviation)))

    def next_logits(self, tokens: Sequence[int], penalty: float = 1.0) -> Any:
        """Logits [V] of the token after `tokens`, the last of which is computed by itself."""
        from helix_cli.sampling import penalise

        logits = scores(self.target, tokens, len(tokens) - 1, 1)
        return penalise(logits, SamplingParams(repetition_penalty=penalty), tokens)[0]

    def remember(self, name: str, compute: Callable[[], Any]) -> Any:
        """The value of that name, computed when it is first asked for."""
        if name not in self.memory:
            self.memory[name] = compute()
        return self.memory[name]


def _folder(name: str, role: str) -> Path:
    return DEMO_PAIR / role if name == DEMO else resolve(name)
