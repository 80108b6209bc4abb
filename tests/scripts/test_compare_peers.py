"""The comparison from its command line to its files, over engines that are made up."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts import compare_peers
from scripts.peers_arms import ENGINES, Arm, Setup, llamacpp_arms
from scripts.peers_convert import Converter
from scripts.peers_process import Recipe
from tests.tiny import tiny_checkpoint, tiny_tokenizer


def made_up_arms(setup: Setup, weights: str) -> Iterator[Arm]:
    """One worker for all depths; with weights "bad" it crashes in the second round, in which drafts come first."""
    settings = {"name": weights, "trouble": "crash" if weights == "bad" else "", "after": 9}
    recipe = Recipe(sys.executable, "tests.scripts.fake_peer", json.dumps(settings), setup.threads)
    return (Arm("Made up", weights, k, recipe) for k in (0, *setup.peer_depths))


def setup(root: Path, llamacpp: Path | None = None, python: Path | None = None) -> Setup:
    """What the arms have in common, over checkpoints without weights."""
    checkpoints = {role: root / role for role in ("target", "draft")}
    for folder in checkpoints.values():
        folder.mkdir(exist_ok=True)
    converter = Converter(checkpoints, root / "converted", llamacpp, python, threads=3)
    return Setup(converter, 700, helix_depths=(2, 4), peer_depths=(4, 6))


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A command line whose engines are one made up and llama.cpp, which is not installed."""
    monkeypatch.setattr(
        compare_peers,
        "ENGINES",
        {"helix": (made_up_arms, ("good", "bad")), "llamacpp": (llamacpp_arms, ("Q8_0",))},
    )
    monkeypatch.setattr(compare_peers, "condition", lambda threads: {"load_average": 0, "read_bandwidth_gb_s": threads})
    for role in ("target", "draft"):
        tiny_tokenizer(tiny_checkpoint(tmp_path / role))
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "The sea"}\n{"prompt": "The wind"}\n')
    paths = {"target": "target", "draft": "draft", "converted": "converted", "json": "out.json", "table": "out.md"}
    command = [argument for name, path in paths.items() for argument in (f"--{name}", str(tmp_path / path))]
    return [*command, "--prompts", str(prompts), "--rounds", "2", "--tokens", "32", "--k", "4", "--ttft-prompt", "20"]


def outcome(monkeypatch: pytest.MonkeyPatch, command: list[str]) -> int | str | None:
    """Runs a command line; its exit code."""
    monkeypatch.setattr(sys, "argv", ["compare_peers", *command])
    with pytest.raises(SystemExit) as stopped:
        compare_peers.main()
    return stopped.value.code


def test_a_failed_arm_makes_the_exit_code_and_is_no_number(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert outcome(monkeypatch, command) == 1
    written = json.loads((tmp_path / "out.json").read_text())
    good, drafted, _, bad, absent, _ = written["arms"]
    assert len(good["runs"]) == 4
    assert good["tokens_per_second"] == pytest.approx(10.0)
    assert drafted["k"] == 4
    assert set(bad) == {"engine", "weights", "k", "problem"}
    assert "ended with code 3" in bad["problem"]
    assert absent["problem"].startswith("not installed")
    assert written["prompt_tokens"] and written["long_prompt_tokens"] >= 20
    assert len(written["conditions"]) == 2
    printed = capsys.readouterr().out
    assert printed == (tmp_path / "out.md").read_text()
    assert "| Made up | bad | K = 4 | failed: " in printed
    assert "| llama.cpp | Q8_0 | none | not installed: " in printed


def test_an_engine_that_nobody_named_is_no_failure(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert outcome(monkeypatch, [*command, "--helix-weights", "good"]) == 0


def test_a_bad_prompt_file_is_one_sentence(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    said = outcome(monkeypatch, [*command, "--prompts", "/nowhere.jsonl"])
    assert said == "compare_peers: /nowhere.jsonl cannot be read: No such file or directory."


def test_a_text_beyond_the_pairs_context_is_refused_at_once(
    command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = outcome(monkeypatch, [*command, "--ttft-prompt", "250"])
    assert isinstance(said, str) and "positions and the pair has 256" in said


@pytest.mark.parametrize("wrong", [["--k", "0"], ["--k", "15"], ["--tokens", "5"], ["--rounds", "0"], ["--turn", "0"]])
def test_what_cannot_be_measured_is_refused(command: list[str], wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        compare_peers.parse_arguments([*command, *wrong])
    assert stopped.value.code == 2


def test_depths_share_a_worker_where_the_engine_can_change_them(tmp_path: Path) -> None:
    """Plain arms have a worker of their own, so that a draft model does not count in their memory."""
    for engine, (build, formats) in ENGINES.items():
        if engine in ("helix", "transformers"):
            plain, shallow, deep = build(setup(tmp_path), formats[0])
            assert plain.recipe != shallow.recipe == deep.recipe
            assert plain.k == 0 < shallow.k < deep.k


def test_llamacpp_has_a_worker_for_every_depth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Converter, "gguf", lambda self, role, form: Path(f"/{role}-{form}"))
    arms = list(llamacpp_arms(setup(tmp_path, llamacpp=Path("/llama.cpp")), "Q4_0"))
    settings = [json.loads(arm.recipe.settings) for arm in arms if arm.recipe]
    assert [(one["k"], one["draft"]) for one in settings] == [(0, None), (4, "/draft-Q4_0"), (6, "/draft-Q4_0")]
    assert {one["threads"] for one in settings} == {3}


def test_every_arm_is_held_to_the_threads(tmp_path: Path) -> None:
    for build, formats in ENGINES.values():
        for arm in build(setup(tmp_path), formats[0]):
            if arm.recipe is not None:
                assert arm.recipe.threads == 3
                assert "3" in arm.recipe.settings


def test_a_conversion_that_fails_fails_the_arms_that_need_it(tmp_path: Path) -> None:
    python = tmp_path / "no-python"
    arms = [
        arm for name in ("llamacpp", "openvino") for arm in ENGINES[name][0](setup(tmp_path, tmp_path, python), "F16")
    ]
    assert len(arms) == 6
    assert all(arm.recipe is None and arm.absent.startswith("failed: ") for arm in arms)
