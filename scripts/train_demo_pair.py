"""Train the pair of models that Helix ships: a target, and a draft distilled from it meanwhile.

    python -m scripts.train_demo_pair --work WORK --minutes 95 --export helix_cli/assets/demo

`--resume last` continues a run that was stopped, at any time, with Ctrl-C or a signal. `--resume
stable` continues from where the learning rate began to fall, with a larger budget than before. A
run whose budget is spent trains no further, and only exports. On a processor with other work to do,
OMP_WAIT_POLICY=PASSIVE keeps the threads from waiting busily for each other; with the C library of GNU,
MALLOC_MMAP_MAX_=0 and a large MALLOC_TRIM_THRESHOLD_ save the time of getting memory again at every step.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
import transformers
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from torch import nn

from scripts.demo_data import CONTEXT, Material
from scripts.demo_pair import DRAFT, TARGET, Muon, held_out_losses, losses, new_model
from scripts.demo_report import evaluate, export, write_card

# Depth grows while training: (share of the run, layers). A layer starts as the identity, so that
# growing changes no output, and the shallow beginning sees far more text in the same time.
DEPTHS = ((0.0, 5), (0.86, 10), (0.93, 20))
DECAY_FROM = 0.8
LONG_ROWS_FROM = 0.9
WARM_UP_TOKENS = 200_000
QUESTION_SHARE = 0.3


class Trainer:
    """Both models, their optimizers, and everything that a checkpoint has to hold."""

    def __init__(self, arguments: argparse.Namespace, command: str) -> None:
        torch.manual_seed(arguments.seed)
        self.arguments = arguments
        automatic = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(automatic if arguments.device == "auto" else arguments.device)
        arguments.work.mkdir(parents=True, exist_ok=True)
        self.material = Material(arguments.work, arguments.seed)
        self.target = new_model(TARGET).to(self.device)
        self.draft = new_model(DRAFT).to(self.device)
        matrices: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for model in (self.target, self.draft):
            for name, parameter in model.named_parameters():
                hidden = parameter.ndim == 2 and "embed" not in name
                (matrices if hidden else others).append(parameter)
        self.optimizers: list[torch.optim.Optimizer] = [
            Muon(matrices, arguments.lr),
            torch.optim.AdamW(others, arguments.lr, (0.9, 0.95), weight_decay=0.0),
        ]
        self.tokens, self.step, self.seconds, self.layers = 0, 0, 0.0, 0
        self.history: list[tuple[int, str]] = []
        if arguments.resume:
            self.load(arguments.resume)
        self.command = command
        self.stopped = False

    def progress(self) -> float:
        """Return the share of the run that is over, by tokens or by time, whichever is further."""
        limit = self.arguments.minutes
        by_time = self.seconds / (60 * limit) if limit else 0.0
        return float(max(self.tokens / self.arguments.tokens, by_time))

    def deepen(self) -> None:
        """Let as many of the target's layers take part as this point of the run asks for."""
        wanted = max(layers for start, layers in DEPTHS if start <= self.progress())
        if wanted > self.layers:
            self.layers = wanted
            self.history.append((self.tokens, f"{wanted} layers of the target take part"))
        self.target.model.config.num_hidden_layers = self.layers

    def train_step(self) -> tuple[float, float]:
        """Take one step on a batch of both kinds of text and return both models' losses."""
        progress = self.progress()
        length = CONTEXT if progress >= LONG_ROWS_FROM else CONTEXT // 2
        count = self.arguments.batch // length
        # Carries the fraction of a row over, so that the share holds over many steps.
        asked = math.floor((self.step + 1) * count * QUESTION_SHARE)
        asked -= math.floor(self.step * count * QUESTION_SHARE)
        parts = [self.material.code.take(count - asked, length + 1)]
        if asked:
            parts.append(self.material.questions.take(asked, length + 1))
        rows = torch.from_numpy(np.concatenate(parts)).to(self.device)
        total = [0.0, 0.0]
        for piece in torch.split(rows, max(1, self.arguments.piece // length)):
            half = self.device.type == "cuda" or self.arguments.bfloat16
            with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
                target_loss, mixed, draft_loss = losses(self.target, self.draft, piece)
            share = len(piece) / count
            ((target_loss + mixed) * share).backward()
            total[0] += target_loss.item() * share
            total[1] += draft_loss.item() * share
        self.tokens += count * length
        self.step += 1
        factor = min(self.tokens / WARM_UP_TOKENS, (1 - progress) / (1 - DECAY_FROM), 1.0)
        for model in (self.target, self.draft):
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.arguments.lr * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return total[0], total[1]

    def save(self, name: str) -> None:
        """Write a checkpoint so that a reader never meets half of one."""
        state = {
            "models": [self.target.state_dict(), self.draft.state_dict()],
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "places": [self.material.code.place(), self.material.questions.place()],
            "counters": [self.tokens, self.step, self.seconds, self.layers],
            "history": self.history,
        }
        partial = self.arguments.work / f"{name}.partial"
        torch.save(state, partial)
        os.replace(partial, self.arguments.work / f"{name}.pt")

    def load(self, name: str) -> None:
        """Continue from a checkpoint."""
        path = self.arguments.work / f"{name}.pt"
        state = torch.load(path, map_location=self.device, weights_only=True)
        for model, weights in zip((self.target, self.draft), state["models"], strict=True):
            model.load_state_dict(weights)
        for optimizer, held in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(held)
        self.material.code.move(state["places"][0])
        self.material.questions.move(state["places"][1])
        self.tokens, self.step, self.seconds, self.layers = state["counters"]
        self.history = state["history"]

    def train(self) -> None:
        """Train until the budget is spent or a signal comes, and leave a checkpoint behind."""
        if self.progress() >= 1.0:
            return
        self.history.append((self.tokens, f"`{self.command}`"))
        saved = clock = time.monotonic()
        console = Console()
        columns = BarColumn(), TextColumn("{task.description}")
        with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
            task = bar.add_task("", total=1.0)
            while self.progress() < 1.0 and not self.stopped:
                self.deepen()
                stable, before = self.progress() < DECAY_FROM, self.tokens
                target_loss, draft_loss = self.train_step()
                now = time.monotonic()
                speed, clock = (self.tokens - before) / (now - clock), now
                self.seconds += (self.tokens - before) / speed
                left = (1 / self.progress() - 1) * self.seconds / 60
                line = (
                    f"step {self.step}, {self.tokens} tokens, loss {target_loss:.3f} and {draft_loss:.3f}, "
                    f"{speed:.0f} tokens/s, {left:.0f} min left"
                )
                bar.update(task, completed=self.progress(), description=line)
                if not console.is_terminal and self.step % 10 == 0:
                    print(line, flush=True)
                if self.step % self.arguments.check_steps == 0:
                    found = held_out_losses(self.target, self.draft, self.material, 8192)
                    console.print(f"{self.tokens} tokens, held out: {found}")
                if stable and self.progress() >= DECAY_FROM:
                    self.save("stable")
                if now - saved > 60 * self.arguments.save_minutes:
                    self.save("last")
                    saved = now
        self.save("last")

    def facts(self) -> dict[str, Any]:
        """Return what the model card tells about the training."""
        graphics = torch.cuda.get_device_name() if self.device.type == "cuda" else None
        return {
            "tokens": self.tokens,
            "steps": self.step,
            "minutes": round(self.seconds / 60, 1),
            "history": self.history,
            "code_files": self.material.files,
            "code_tokens": len(self.material.code_tokens),
            "things_asked_about": len(self.material.known),
            "held_out_files": self.material.held_files,
            "held_out_things": len(self.material.unknown),
            "question_share": QUESTION_SHARE,
            "tokens_a_step": self.arguments.batch,
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
    parser.add_argument("--tokens", type=int, default=20_000_000, help="tokens to train on")
    parser.add_argument("--minutes", type=float, help="end by this time, decay included")
    parser.add_argument("--batch", type=int, default=4096, help="tokens a step")
    parser.add_argument("--piece", type=int, default=2048, help="tokens a forward pass")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--bfloat16", action="store_true", help="for processors with instructions for it")
    parser.add_argument("--save-minutes", type=float, default=5)
    parser.add_argument("--check-steps", type=int, default=100)
    parser.add_argument("--resume", choices=("last", "stable"), help="the checkpoint to continue from")
    parser.add_argument("--export", type=Path, help="where to write the pair")
    parser.add_argument("--evaluate", type=Path, help="the exported pair to evaluate, and its model card to write")
    arguments = parser.parse_args()
    told = [
        f"--{name.replace('_', '-')}"
        + ("" if value is True else f" {value:g}" if type(value) is float else f" {value}")
        for name, value in vars(arguments).items()
        if value != parser.get_default(name) and name not in ("work", "export", "evaluate")
    ]
    trainer = Trainer(arguments, " ".join(["python -m scripts.train_demo_pair --work WORK", *told]))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: setattr(trainer, "stopped", True))
    trainer.train()
    if arguments.export:
        export(trainer.target, trainer.draft, trainer.material.tokenizer, trainer.facts(), arguments.export)
    if arguments.evaluate:
        evaluate(arguments.evaluate, trainer.material)
        write_card(arguments.evaluate)


if __name__ == "__main__":
    main()
