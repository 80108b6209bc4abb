"""The whole engine on simulated devices: DirectML and Metal get the operations that they have, and no other.

What the tests of other parts run on the CPU is run here where nothing else would do; what is compared is the text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

import helix_cli.backend as backends
from helix_cli.backend import Backend
from helix_cli.checks import CHECKS
from helix_cli.checks.check import Result
from helix_cli.checks.effort import EFFORTS
from helix_cli.checks.law import target_law
from helix_cli.checks.runner import run_one
from helix_cli.checks.subject import Completed, Subject
from helix_cli.config import load_config
from helix_cli.core import FinishedEvent, Request, SamplingParams
from helix_cli.draft import DRAFTERS
from helix_cli.draft.auto_depth import AutoDepth
from helix_cli.draft.vocabulary import SharedTokens
from helix_cli.model.architecture import read_architecture
from helix_cli.model.decoder import Decoder
from helix_cli.model.hf.config import read_hf_architecture
from helix_cli.model.hf.loading import load_hf_decoder
from helix_cli.model.loader import load_decoder
from helix_cli.prompt import Prompt
from helix_cli.session import open_session
from helix_cli.tokenizer import Pairing
from helix_cli.verify import RULES
from tests.backend.kernels import directml_kernels, mps_kernels
from tests.backend.pretend import directml_backend, mps_backend
from tests.backend.simulated import DEVICE, Recorder, integer_arithmetic, mixed_floats, open_simulated
from tests.harness import SMALL, build, decoder, requests
from tests.model.hf.zoo import make
from tests.model.parity import cpu
from tests.test_session import save_pair
from tests.tiny import tiny_checkpoint

DEVICES = {"directml": (directml_backend, directml_kernels), "mps": (mps_backend, mps_kernels)}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": 6},
    "qwen2": {},
    "qwen3": {},
    "phi3": {},
}
ADAPTED = ("gemma2", "gpt2", "cohere", "gpt_oss", "deepseek_v3")
"""Of those that run through transformers' modules: a soft cap, other layouts, sinks, experts, unequal widths."""
GREEDY: dict[str, Any] = {"temperature": 0.0, "repetition_penalty": 1.1}
SAMPLED: dict[str, Any] = {"temperature": 0.9, "top_k": 12, "top_p": 0.9, "min_p": 0.01, "repetition_penalty": 1.2}
LENGTH = 20
CHECKED = ("cache.shuffled", "cache.rollback", "sampled.real.token", "stops.eos")
"""Checks of `helix validate` that look at the device's tensors, beside those of whole groups."""
TIGHT = 18
"""Blocks that are too few for all texts, so that some are preempted and computed again."""


@dataclass
class Simulated:
    """A device and models on it."""

    backend: Backend
    recorder: Recorder
    folder: Path

    def load(self, dtype: torch.dtype = torch.float32, family: str = "llama", **config: Any) -> Decoder:
        """A tiny model on the device; left as it is, with the weights of `tests.harness.decoder`."""
        path = tiny_checkpoint(self.folder / family, family, **(SMALL | config))
        return load_decoder(path, read_architecture(path), self.backend, dtype)


@pytest.fixture
def recorder(request: pytest.FixtureRequest) -> Recorder:
    """The simulated device, compiled at most once for each torch."""
    return open_simulated(request.config.cache.mkdir("simulated_device"))


@pytest.fixture(params=DEVICES)
def simulated(
    request: pytest.FixtureRequest, recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Simulated]:
    open_backend, kernels = DEVICES[request.param]
    recorder.start(kernels())
    yield Simulated(open_backend(monkeypatch, DEVICE), recorder, tmp_path)
    operations = recorder.operations()
    assert operations, "nothing has run on the device"
    assert not integer_arithmetic(operations)
    # Metal takes both number types at once; and its own attention kernel comes apart in the simulation.
    assert request.param == "mps" or not mixed_floats(operations)


@pytest.mark.parametrize(("drafter", "rule"), list(product(DRAFTERS, RULES)))
def test_every_drafter_and_rule_says_what_the_cpu_says(simulated: Simulated, drafter: str, rule: str) -> None:
    sampling = GREEDY if rule == "greedy" else SAMPLED | {"seed": 5}
    target, draft = simulated.load(), simulated.load()
    draft.embedding.copy_(decoder("draft").embedding)
    wanted = requests(3, shared=9, max_tokens=LENGTH, ignore_eos=True, **sampling)
    texts = []
    for models in ((target, draft), (decoder("target"), decoder("draft"))):
        bench = build(drafter, target=models[0], draft=models[1], block_size=4, num_blocks=TIGHT, max_step_tokens=16)
        texts.append([one.tokens for one in bench.run(wanted, rule)])
        assert any(output.preempted for output in bench.outputs), "this case is meant to preempt"
        assert drafter == "none" or bench.num_accepted < bench.num_drafted, "and to roll back"
    assert texts[0] == texts[1]


@pytest.mark.parametrize(("family", "dtype"), list(product(FAMILIES, [torch.float32, torch.float16])), ids=str)
def test_every_family_and_number_type(simulated: Simulated, family: str, dtype: torch.dtype) -> None:
    target = simulated.load(dtype, family, **FAMILIES[family])
    for sampling in (GREEDY, SAMPLED):
        # Prompts longer than the tokens that attention folds, in one chunk, in several, and found in the pool.
        bench = build("early_exit", AutoDepth(), target=target, block_size=4, max_step_tokens=32)
        asked = requests(2, shared=40, max_tokens=LENGTH, ignore_eos=True, **sampling)
        outcomes = [*bench.run(asked), *bench.run(asked)]
        assert [len(one.tokens) for one in outcomes] == [LENGTH] * 4
        assert all(one.sequence.trace.num_reused for one in outcomes[2:])


@pytest.mark.parametrize("simulated", ["directml"], indirect=True)
@pytest.mark.parametrize("family", ADAPTED)
def test_families_that_run_through_transformers(simulated: Simulated, family: str) -> None:
    make(family).save_pretrained(simulated.folder)
    asked = [Request(tuple(range(5, 5 + length)), SamplingParams(max_tokens=12, ignore_eos=True)) for length in (33, 3)]
    texts = []
    for backend in (cpu(), simulated.backend):
        path, dtype = simulated.folder, torch.float32
        target = load_hf_decoder(path, read_hf_architecture(path), backend, dtype, dtype, lambda note: None)
        simulated.recorder.operations()  # transformers' own masks, to compare with when loading, may count in int64
        bench = build("ngram", target=target, block_size=4, max_step_tokens=32)
        texts.append([one.tokens for one in bench.run(asked)])
    assert texts[0] == texts[1]


def test_a_law_over_shared_tokens(simulated: Simulated) -> None:
    no_tokenizer: Any = None
    pairing = Pairing("shared", {0: 3, 2: 1}, target_size=4, draft_size=5, coverage=1.0, difference=None)
    shared = SharedTokens(no_tokenizer, no_tokenizer, pairing, 4, frozenset())
    found = shared.fit(torch.arange(10.0).view(2, 5).to(simulated.backend.device)).cpu()
    none = float("-inf")
    assert found.tolist() == [[3.0, none, 1.0, none], [8.0, none, 6.0, none]]


@pytest.fixture
def settings(simulated: Simulated, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Overrides for a session over a pair of tiny checkpoints on the device."""
    name = simulated.backend.name
    monkeypatch.setattr(backends, "BACKENDS", {**backends.BACKENDS, name: lambda index, threads: simulated.backend})
    target, draft = save_pair(simulated.folder)
    chosen = ["draft.kind=model", f"draft.path={draft}", f"backend.device={name}", "cache.blocks=128"]
    return [f"model.path={target}", *chosen, f"sampling.max_tokens={LENGTH}"]


def test_a_session_keeps_its_prompt_for_the_next_one(settings: list[str]) -> None:
    config = load_config(None, [*settings, "cache.block_size=4", "cache.persist=true"])
    prompt = Prompt(0, "The fox " * 4)
    texts = []
    for reused in (False, True):
        session = open_session(config, [prompt])
        [event] = [event for event in session.stream([prompt]) if isinstance(event, FinishedEvent)]
        assert bool(event.stats.num_reused_tokens) == reused
        assert session.keep(prompt) == []
        texts.append(event.token_ids)
    assert texts[0] == texts[1]


def test_a_user_can_validate_the_device(settings: list[str]) -> None:
    subject = Subject(load_config(None, settings), EFFORTS["quick"], 0, lambda arguments, stdin: Completed(0, b"", ""))
    for check in CHECKS.values():
        if check.group in ("environment", "numerics") or check.id in CHECKED:
            record = run_one(check, subject)
            assert record.result in (Result.PASS, Result.SKIPPED), f"{check.id}: {record.reason}"
    law = target_law(subject.target, (5, 9), SamplingParams(temperature=1.0, top_k=3), frozenset(), length=2).chances
    assert sum(law.values()) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("work", "complaint"),
    [
        (lambda x: x.cumprod(-1), "cumprod.out has no kernel"),
        (lambda x: torch.searchsorted(x[0].contiguous(), x[0]), "searchsorted.Tensor has no kernel"),
        (lambda x: x.index_copy_(0, torch.tensor([0], device=DEVICE), x[:1].clone()), "index_copy.out has no kernel"),
        (lambda x: x.double(), "no Double"),
        (lambda x: x.bfloat16(), "no BFloat16"),
        (lambda x: x.index_select(0, torch.tensor([1])), "index_select is given a tensor of the CPU"),
    ],
)
def test_the_simulated_device_refuses_what_directml_lacks(
    recorder: Recorder, work: Callable[[torch.Tensor], object], complaint: str
) -> None:
    recorder.start(directml_kernels())
    with pytest.raises(RuntimeError, match=complaint):
        work(torch.ones(2, 3).to(DEVICE))


def test_the_recorder_sees_integers_and_mixtures(recorder: Recorder) -> None:
    recorder.start(directml_kernels())
    assert torch.ones(2).to(DEVICE).argmax().item() == 0
    assert not integer_arithmetic(recorder.operations())
    torch.arange(3, device=DEVICE) + 1
    assert integer_arithmetic(recorder.operations()) == {"add.out"}
    torch.ones(2).to(DEVICE) * torch.ones(2, dtype=torch.float16).to(DEVICE)
    assert mixed_floats(recorder.operations()) == {"mul.out"}


def test_memory_of_the_simulated_device_is_not_zero_by_chance(recorder: Recorder) -> None:
    recorder.start(directml_kernels())
    assert torch.empty(64, device=DEVICE).cpu().isnan().all()
