"""What is asked, and what the plan makes of a command line."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from helix_cli.bench.plan import FIXED_KEYS, bench_config, make_plan, workloads_of
from helix_cli.bench.workloads import CATEGORIES, SHAPE_TEXTS, Builder, bundled, parse_shape
from helix_cli.config import load_config
from helix_cli.errors import ConfigError, InputError
from helix_cli.prompt import Prompt
from helix_cli.tokenizer import Tokenizer
from tests.tiny import VOCABULARY, tiny_checkpoint, tiny_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer(tiny_tokenizer(tiny_checkpoint(tmp_path_factory.mktemp("model"))))


@pytest.fixture
def builder(tokenizer: Tokenizer) -> Builder:
    return Builder(tokenizer, VOCABULARY, context=4096)


def test_the_bundle_has_eight_prompts_of_every_kind() -> None:
    tasks = bundled()
    counts = Counter(one.category for one in tasks)
    assert set(counts) == set(CATEGORIES) and min(counts.values()) >= 8
    assert len({one.id for one in tasks}) == len({one.text for one in tasks}) == len(tasks)
    for one in tasks:
        if one.category == "code":
            compile(one.text.partition("\n")[0] if one.text.startswith("import") else "pass", one.id, "exec")


def test_code_is_continued_and_everything_else_is_asked() -> None:
    chat, code = (next(one for one in bundled() if one.category == name) for name in ("chat", "code"))
    assert chat.prompt(as_chat=True).messages is not None and chat.prompt(as_chat=False).text == chat.text
    assert code.prompt(as_chat=True).text == code.text


def test_shapes_by_name(builder: Builder) -> None:
    [pp] = builder.shape(parse_shape("pp64"), seed=3).jobs
    assert (len(pp.prompts[0]), pp.max_tokens) == (64, 1)
    assert (
        pp == builder.shape(parse_shape("pp64"), seed=3).jobs[0] != builder.shape(parse_shape("pp64"), seed=4).jobs[0]
    )
    short = builder.shape(parse_shape("tg8"), seed=0)
    assert len(short.jobs) == SHAPE_TEXTS and {job.max_tokens for job in short.jobs} == {8}
    deep = builder.shape(parse_shape("tg8@d2000"), seed=0)
    assert {len(job.prompts[0]) for job in deep.jobs} == {2000}
    assert len({job.prompts for job in deep.jobs}) == SHAPE_TEXTS
    for name in ("pp", "tg0", "pp0", "tg128@2048", "tg128@d0", "xx1"):
        with pytest.raises(InputError, match="There is no shape"):
            parse_shape(name)


def test_only_the_pp_shape_has_random_tokens(builder: Builder, tokenizer: Tokenizer) -> None:
    deep = builder.shape(parse_shape("tg8@d300"), seed=0).jobs[0].prompts[0]
    first = next(one for one in bundled() if one.category == CATEGORIES[0])
    assert tokenizer.decode(deep).startswith(first.text[:100])


def test_a_context_that_is_too_short_is_a_reason(tokenizer: Tokenizer) -> None:
    found = Builder(tokenizer, VOCABULARY, context=256).shape(parse_shape("tg128@d2048"), seed=0)
    assert not found.jobs and found.impossible == "needs 2176 positions, and the model's context has 256"
    refusing = Builder(tokenizer, VOCABULARY, 4096, lambda job: "no blocks").category("code", 1, 8)
    assert not refusing.jobs and refusing.impossible.endswith(": no blocks")


def test_a_shape_beyond_the_context_is_refused_before_its_tokens_are_made(builder: Builder) -> None:
    for name in ("pp1000000000000", "tg16@d1000000000000", "tg1000000000000"):
        assert "positions, and the model's context has 4096" in builder.shape(parse_shape(name), seed=0).impossible


def test_a_prompt_that_does_not_fit_is_named(builder: Builder) -> None:
    prompts = [Prompt(0, "short"), Prompt(1, "long", max_tokens=5000)]
    assert builder.file("mine.jsonl", prompts, 8).impossible.startswith("prompt 2: needs 500")


def test_batches_share_their_prompts(builder: Builder) -> None:
    jobs = builder.mixed(("chat", "code"), 8)
    assert [job.id for job in jobs[:4]] == ["chat-1", "code-1", "chat-2", "code-2"]
    alone, together = builder.batches(jobs, (1, 4), 8)
    assert (alone.batch, len(alone.jobs), together.batch, len(together.jobs)) == (1, 4, 4, 1)
    assert tuple(prompt for job in alone.jobs for prompt in job.prompts) == together.jobs[0].prompts
    with pytest.raises(InputError, match="A batch of 64 needs as many prompts"):
        builder.batches(jobs, (64,), 8)


def test_a_plan_makes_workloads(builder: Builder) -> None:
    plan = make_plan("plain", "pp8,tg4", "code,chat", "1,2", rounds=1, tokens=8, limit=2)
    found = workloads_of(plan, builder, "mine", [], seed=0)
    assert [one.name for one in found] == ["pp8", "tg4", "code", "chat", "batch 1", "batch 2"]
    assert [len(one.jobs) for one in found] == [1, 3, 2, 2, 2, 1]
    own = [Prompt(0, "one"), Prompt(1, "two", max_tokens=5)]
    plan = make_plan("plain", "none", "none", "2", rounds=1, tokens=8, limit=2)
    mine, batch = workloads_of(plan, builder, "mine", own, seed=0)
    assert [(job.id, job.max_tokens) for job in mine.jobs] == [("1", 8), ("2", 5)] and batch.batch == 2
    with pytest.raises(InputError, match="nothing to measure"):
        workloads_of(make_plan("plain", "none", "none", None, rounds=1, tokens=8, limit=2), builder, "", [], 0)


@pytest.mark.parametrize(
    ("arms", "shapes", "categories", "batches", "message"),
    [
        ("plain,magic", "none", "all", None, "There is no arm 'magic'"),
        ("plain,,", "none", "all", None, "has an empty place"),
        ("plain", "pp1x", "all", None, "There is no shape"),
        ("plain", "none", "poetry", None, "There is no category 'poetry'"),
        ("plain", "none", "all", "1,x", "is not a list of sizes"),
        ("plain", "none", "all", "3,4", "cannot share its prompts"),
        ("none", "none", "all", None, "There is no arm 'none'"),
    ],
)
def test_mistakes_in_a_plan(arms: str, shapes: str, categories: str, batches: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_plan(arms, shapes, categories, batches, rounds=1, tokens=8, limit=1)


def test_the_settings_of_a_benchmark(tmp_path: Path) -> None:
    plan = make_plan("plain,speculative", "none", "all", "16", rounds=1, tokens=40, limit=1)
    config = bench_config(load_config(None), None, (), plan, reuse=False)
    assert (config.sampling.temperature, config.sampling.seed, config.sampling.max_tokens) == (0, 0, 40)
    assert config.sampling.ignore_eos and not config.cache.prefix_reuse and config.draft.kind == "model"
    file = tmp_path / "x.yaml"
    file.write_text("sampling: {temperature: 0.7, stop: [x], max_tokens: 999}\n", encoding="utf-8")
    config = bench_config(load_config(file), file, (), plan, reuse=True)
    assert (config.sampling.temperature, config.sampling.stop, config.sampling.max_tokens) == (0.7, (), 40)
    assert config.cache.prefix_reuse
    alone = make_plan("plain,transformers", "none", "all", None, rounds=1, tokens=40, limit=1)
    assert bench_config(load_config(None), None, (), alone, reuse=False).draft.kind == "none"


def test_settings_that_contradict_the_plan() -> None:
    both = make_plan("plain,speculative,transformers-assisted", "none", "all", "32", rounds=1, tokens=8, limit=1)
    for override in ("draft.kind=none", "draft.kind=ngram"):
        with pytest.raises(ConfigError, match="needs a draft"):
            bench_config(load_config(None, [override]), None, (override,), both, reuse=False)
    with pytest.raises(ConfigError, match=r"A batch of 32 is more than engine\.max_sequences"):
        bench_config(load_config(None), None, (), both, reuse=False)
    alone = make_plan("plain", "none", "all", None, rounds=1, tokens=8, limit=1)
    with pytest.raises(ConfigError, match=r"draft\.k cannot take effect: no arm drafts"):
        bench_config(load_config(None, ["draft.k=2"]), None, ("draft.k=2",), alone, reuse=False)
    for key in FIXED_KEYS:
        with pytest.raises(ConfigError, match="cannot take effect in a benchmark"):
            bench_config(load_config(None), None, (f"{key}=1",), both, reuse=False)
