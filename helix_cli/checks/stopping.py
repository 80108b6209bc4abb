"""A text that is stopped at every place of an accepted block: same tokens, reason, count and K/V as without a draft."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from helix_cli.checks.workbench import Finished, Scripted, build
from helix_cli.core import FinishReason, Request, SamplingParams
from helix_cli.model.language_model import LanguageModel

CAUSES = ("eos", "stop_string", "max_tokens", "context")
CONTEXT = 1 << 20
"""Of a run that shall not meet its end."""

Watch = Callable[[int], bool]


@dataclass(frozen=True)
class StopString:
    """A watch that is made anew for each run, and after how many tokens it stops the text."""

    make: Callable[[], Watch]
    expected: int


@dataclass(frozen=True)
class Stops:
    """A prompt, the greedy text after it, and where to stop that."""

    target: LanguageModel
    prompt: tuple[int, ...]
    text: list[int]
    stop_strings: dict[int, StopString]
    """By offset; an offset without one is left out."""

    def run(self, cause: str, offset: int, k: int) -> tuple[Finished, Tensor]:
        """Stops the text for `cause` after `offset` tokens, with a draft of `k` tokens that knows it; and the K/V.

        An EOS that the text holds earlier stops it earlier.
        """
        eos_ids = frozenset({self.text[offset - 1]}) if cause == "eos" else frozenset[int]()
        length = offset if cause == "max_tokens" else len(self.text)
        params = SamplingParams(max_tokens=length, ignore_eos=cause != "eos")
        bench = build(
            self.target,
            Scripted({self.prompt: self.text}),
            k,
            eos_ids=eos_ids,
            block_size=16,
            num_blocks=(len(self.prompt) + len(self.text)) // 16 + 2,
            max_step_tokens=512,
            context=len(self.prompt) + offset if cause == "context" else CONTEXT,
        )
        watches = {0: self.stop_strings[offset].make()} if cause == "stop_string" else {}
        finished = bench.run([Request(self.prompt, params)], watches=watches)[0]
        return finished, bench.keys_and_values(len(self.prompt) + len(finished.tokens) - 1)

    def expected(self, cause: str, offset: int) -> int:
        """How many tokens the text has then."""
        if cause == "eos":
            return self.text.index(self.text[offset - 1]) + 1
        return self.stop_strings[offset].expected if cause == "stop_string" else offset

    def faults(self, cause: str, offsets: Sequence[int], depths: Sequence[int], close: float) -> Iterator[str]:
        """What differs from the plain text stopped at the same place; K/V may differ by `close`."""
        reason = FinishReason.STOP if cause in ("eos", "stop_string") else FinishReason.LENGTH
        for offset in offsets:
            if cause == "stop_string" and offset not in self.stop_strings:
                continue
            expected = self.text[: self.expected(cause, offset)]
            plain: Tensor | None = None
            for k in depths:
                found, keys_and_values = self.run(cause, offset, k)
                where = f"after {offset} tokens with drafts of {k}"
                if found.tokens != expected:
                    yield f"{where}: {len(found.tokens)} tokens instead of {len(expected)}"
                    continue
                if found.finish is not reason:
                    yield f"{where}: reason {found.finish} instead of {reason}"
                counted = sum(count for _, count in found.sequence.trace.commit_times)
                if counted != len(expected):
                    yield f"{where}: {counted} tokens counted instead of {len(expected)}"
                plain = keys_and_values if plain is None else plain
                difference = float((keys_and_values - plain).abs().max())
                if not difference <= close:
                    yield f"{where}: K/V differ by {difference:.2g}"
