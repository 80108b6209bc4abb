"""Train the pair of models that Helix ships: a target, and a draft distilled from it.

    python -m scripts.train_demo_pair --work WORK --minutes 70 12 20 --export helix_cli/assets/demo

Three stages: the target learns the text, then unlearns its loops, then the draft learns from the target.
A run that was stopped, at any time, with Ctrl-C or a signal, goes on from WORK when it is started again.
`--extend` takes the target's stage up where its learning rate began to fall, with a larger budget than before,
and `--start PAIR` begins from an exported pair. On a processor with other work to do, OMP_WAIT_POLICY=PASSIVE
keeps the threads from waiting busily for each other; with the C library of GNU, MALLOC_MMAP_MAX_=0 and a
large MALLOC_TRIM_THRESHOLD_ save the time of getting memory again at every step.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from transformers import LlamaForCausalLM

from scripts.demo_data import Material
from scripts.demo_pair import DRAFT, TARGET, new_model
from scripts.demo_report import evaluate, export, write_card
from scripts.demo_stages import QUESTION_SHARE, DraftStage, LoopStage, Stage, TargetStage


class Run:
    """The stages one after another, with the story of the pair for its card."""

    def __init__(self, options: argparse.Namespace, command: str) -> None:
        torch.manual_seed(options.seed)
        self.options, self.command = options, command
        automatic = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(automatic if options.device == "auto" else options.device)
        options.work.mkdir(parents=True, exist_ok=True)
        self.story = options.work / "story.json"
        if options.start and not self.story.exists():
            self.begin_from(options.start)
        self.material = Material(options.work, options.seed)
        self.target = new_model(TARGET).to(self.device)
        self.draft = new_model(DRAFT).to(self.device)
        for model, name in ((self.target, "target"), (self.draft, "draft")):
            begun = options.work / "start" / name
            if begun.exists():
                model.load_state_dict(LlamaForCausalLM.from_pretrained(begun, dtype=torch.float32).state_dict())
        self.stage: Stage | None = None
        self.stopped = False

    def begin_from(self, pair: Path) -> None:
        """Take over an exported pair's models, tokenizer and story."""
        shutil.copytree(pair, self.options.work / "start", dirs_exist_ok=True)
        (self.options.work / "tokenizer").mkdir(exist_ok=True)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(pair / "target" / name, self.options.work / "tokenizer" / name)
        earlier = json.loads((pair / "training.json").read_text(encoding="utf-8"))
        self.story.write_text(json.dumps([earlier["stages"], earlier["history"]]), encoding="utf-8")

    def told(self) -> tuple[list[dict[str, Any]], list[str]]:
        """Return the stages that came before this work folder, and the commands that led here."""
        if not self.story.exists():
            return [], []
        stages, commands = json.loads(self.story.read_text(encoding="utf-8"))
        return stages, commands

    def stop(self) -> None:
        """End the run after the step in progress."""
        self.stopped = True
        if self.stage:
            self.stage.stopped = True

    def stages(self) -> Iterable[Stage]:
        """Make each stage when the ones before it have done their work on the models."""
        minutes = self.options.minutes or [None] * 3
        yield TargetStage(self.target, self.material, self.options, minutes[0])
        self.target.config.num_hidden_layers = TARGET.num_hidden_layers
        yield LoopStage(self.target, self.material, self.options, minutes[1])
        yield DraftStage(self.draft, self.target, self.material, self.options, minutes[2])

    def train(self) -> list[dict[str, Any]]:
        """Run what is left of every stage and return what each has done in all."""
        earlier, commands = self.told()
        self.story.write_text(json.dumps([earlier, [*commands, self.command]]), encoding="utf-8")
        done = list(earlier)
        for stage in self.stages():
            if self.stopped:
                break
            self.stage = stage
            point = "stable" if self.options.extend and stage.name == "target" else "last"
            stage.load(point)
            stage.train()
            done.append(
                {"name": stage.name, "tokens": stage.tokens, "steps": stage.step, "minutes": stage.minutes_spent}
            )
        return done

    def facts(self, stages: list[dict[str, Any]]) -> dict[str, Any]:
        """Return what the model card tells about the training."""
        graphics = torch.cuda.get_device_name() if self.device.type == "cuda" else None
        return {
            "stages": stages,
            "history": self.told()[1],
            "code_files": self.material.files,
            "code_tokens": len(self.material.code_tokens),
            "things_asked_about": len(self.material.known),
            "held_out_files": self.material.held_files,
            "held_out_things": len(self.material.unknown),
            "question_share": QUESTION_SHARE,
            "tokens_a_step": self.options.batch,
            "hardware": graphics or f"{processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
            "versions": {
                "Python": platform.python_version(),
                "torch": torch.__version__,
                "transformers": transformers.__version__,
                "tokenizers": tokenizers.__version__,
            },
        }


def processor() -> str:
    """Return the processor's name as the system tells it."""
    table = Path("/proc/cpuinfo")
    lines = table.read_text().splitlines() if table.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def main() -> None:
    """Read the command line, then train, export and evaluate as it asks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="where checkpoints go")
    parser.add_argument("--start", type=Path, help="an exported pair to begin from")
    parser.add_argument("--tokens", type=int, default=20_000_000, help="tokens to train on, in each stage")
    parser.add_argument("--minutes", type=float, nargs=3, help="end each of the three stages by this time")
    parser.add_argument("--batch", type=int, default=4096, help="tokens a step")
    parser.add_argument("--piece", type=int, default=2048, help="tokens a forward pass")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--bfloat16", action="store_true", help="for processors with instructions for it")
    parser.add_argument("--save-minutes", type=float, default=5)
    parser.add_argument("--check-steps", type=int, default=100)
    parser.add_argument("--extend", action="store_true", help="train the target for longer than it was planned")
    parser.add_argument("--export", type=Path, help="where to write the pair")
    parser.add_argument("--evaluate", type=Path, help="the exported pair to evaluate, and its model card to write")
    options = parser.parse_args()
    told = [
        f"--{name.replace('_', '-')}" + ("" if value is True else f" {shown(value)}")
        for name, value in vars(options).items()
        if value != parser.get_default(name) and name not in ("work", "start", "export", "evaluate")
    ]
    command = " ".join(
        ["python -m scripts.train_demo_pair --work WORK", *(["--start PAIR"] if options.start else []), *told]
    )
    run = Run(options, f"`{command}`")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: run.stop())
    if options.export:
        stages = run.train()
        if not run.stopped:
            export(run.target, run.draft, run.material.tokenizer, run.facts(stages), options.export)
    if options.evaluate:
        evaluate(options.evaluate, run.material)
        write_card(options.evaluate)


def shown(value: object) -> str:
    """Return an option's value as one would type it."""
    return " ".join(f"{one:g}" for one in value) if isinstance(value, list) else str(value)


if __name__ == "__main__":
    main()
