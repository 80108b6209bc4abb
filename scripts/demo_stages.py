"""The stages of the demonstration pair's training: what each one learns from, and the loop they share."""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from torch import Tensor, nn

from scripts.demo_data import CONTEXT, Material
from scripts.demo_pair import Muon, held_out_losses, next_token_loss
from scripts.demo_rollouts import Rollouts, repeats

DECAY_FROM = 0.8
WARM_UP_TOKENS = 100_000
QUESTION_SHARE = 0.3


class Stage:
    """One model learning for a budget of tokens and minutes, with checkpoints that a signal cannot harm."""

    name: str
    lr: float

    def __init__(self, model: Any, material: Material, options: argparse.Namespace, minutes: float | None) -> None:
        self.model, self.material, self.options, self.minutes = model, material, options, minutes
        self.device = next(model.parameters()).device
        matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
        taken = {id(p) for p in matrices}
        others = [p for p in model.parameters() if id(p) not in taken]
        self.optimizers: list[torch.optim.Optimizer] = [
            Muon(matrices, self.lr),
            torch.optim.AdamW(others, self.lr, (0.9, 0.95), weight_decay=0.0),
        ]
        self.tokens, self.step, self.seconds = 0, 0, 0.0
        self.stopped = False

    def losses(self, progress: float) -> Iterator[Tensor]:
        """Yield the parts of one batch's loss, each to be sent back through the model before the next is computed."""
        raise NotImplementedError

    def progress(self) -> float:
        """Return the share of the stage that is over, by tokens or by time, whichever is further."""
        by_time = self.seconds / (60 * self.minutes) if self.minutes else 0.0
        return float(max(self.tokens / self.options.tokens, by_time))

    def work_done(self) -> float:
        """Return a clock in seconds that stands still, on a CPU, while other programs have the processor."""
        if self.device.type == "cpu":
            return time.process_time() / torch.get_num_threads()
        return time.monotonic()

    @property
    def minutes_spent(self) -> float:
        """Return the minutes that the steps have taken, on a CPU those of all threads at work."""
        return round(self.seconds / 60, 1)

    def text_rows(self, count: int, length: int) -> Tensor:
        """Return rows of training text, code and questions in their shares."""
        # Carries the fraction of a row over, so that the share holds over many steps.
        asked = math.floor((self.step + 1) * count * QUESTION_SHARE) - math.floor(self.step * count * QUESTION_SHARE)
        parts = [self.material.code.take(count - asked, length + 1)]
        if asked:
            parts.append(self.material.questions.take(asked, length + 1))
        return torch.from_numpy(np.concatenate(parts)).to(self.device)

    def train_step(self) -> float:
        """Take one step and return the loss."""
        progress, total = self.progress(), 0.0
        half = self.device.type == "cuda" or self.options.bfloat16
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            for part in self.losses(progress):
                torch.autograd.backward(part)
                total += part.item()
        self.tokens += self.options.batch
        self.step += 1
        factor = min(self.tokens / WARM_UP_TOKENS, (1 - progress) / (1 - DECAY_FROM), 1.0)
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.lr * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return total

    def train(self) -> None:
        """Train until the budget is spent or a signal comes, and leave a checkpoint behind."""
        saved = time.monotonic()
        console = Console()
        columns = BarColumn(), TextColumn("{task.description}")
        with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
            task = bar.add_task("", total=1.0)
            while self.progress() < 1.0 and not self.stopped:
                before, worked, stable = time.monotonic(), self.work_done(), self.progress() < DECAY_FROM
                loss = self.train_step()
                now = time.monotonic()
                self.seconds += self.work_done() - worked
                speed = self.options.batch / (now - before)
                line = f"{self.name}: step {self.step}, {self.tokens} tokens, loss {loss:.3f}, {speed:.0f} tokens/s"
                bar.update(task, completed=self.progress(), description=line)
                if not console.is_terminal and self.step % 10 == 0:
                    print(f"{line}, {self.progress():.0%}", flush=True)
                if self.step % self.options.check_steps == 0:
                    console.print(f"{self.tokens} tokens, held out: {held_out_losses(self.model, self.material, 8192)}")
                if stable and self.progress() >= DECAY_FROM:
                    self.save("stable")
                if now - saved > 60 * self.options.save_minutes:
                    self.save("last")
                    saved = now
        self.save("last")

    def save(self, point: str) -> None:
        """Write a checkpoint so that a reader never meets half of one."""
        state = {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "places": [self.material.code.place(), self.material.questions.place()],
            "counters": [self.tokens, self.step, self.seconds],
        }
        partial = self.options.work / f"{self.name}-{point}.partial"
        torch.save(state, partial)
        os.replace(partial, self.options.work / f"{self.name}-{point}.pt")

    def load(self, point: str) -> bool:
        """Continue from a checkpoint, if there is one."""
        path = self.options.work / f"{self.name}-{point}.pt"
        if not path.exists():
            return False
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        for optimizer, held in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(held)
        self.material.code.move(state["places"][0])
        self.material.questions.move(state["places"][1])
        self.tokens, self.step, self.seconds = state["counters"]
        return True


class TargetStage(Stage):
    """The target learns the text, first with few of its layers and at the end with all of them.

    A layer starts as the identity, so that growing changes no output, and the shallow beginning sees
    far more text in the same time.
    """

    name, lr = "target", 3e-3
    DEPTHS = ((0.0, 5), (0.84, 10), (0.92, 20))
    LONG_ROWS_FROM = 0.9

    def losses(self, progress: float) -> Iterator[Tensor]:
        self.model.model.config.num_hidden_layers = max(n for start, n in self.DEPTHS if start <= progress)
        length = CONTEXT if progress >= self.LONG_ROWS_FROM else CONTEXT // 2
        rows = self.text_rows(self.options.batch // length, length)
        for piece in torch.split(rows, max(1, self.options.piece // length)):
            yield next_token_loss(self.model, piece) * len(piece) / len(rows)


class LoopStage(Stage):
    """The target unlearns turning in circles: its own greedy text is made less likely where it repeats itself.

    Unlikelihood over sequences, after Welleck et al., arXiv 1908.04319, beside the text itself.
    """

    name, lr = "loops", 4e-4

    def __init__(self, model: Any, material: Material, options: argparse.Namespace, minutes: float | None) -> None:
        super().__init__(model, material, options, minutes)
        self.rollouts = Rollouts(model, material, options.seed)

    def losses(self, progress: float) -> Iterator[Tensor]:
        length = CONTEXT // 2
        rows = self.text_rows(self.options.batch // 2 // length, length)
        yield next_token_loss(self.model, rows)
        rows, prompt, *_ = self.rollouts.write(16, 128, greedy=True)
        again = repeats(rows[:, prompt:])
        scores = self.model(input_ids=rows[:, :-1], use_cache=False).logits[:, prompt - 1 :].float()
        chances = scores.softmax(-1).gather(2, rows[:, prompt:, None])[..., 0]
        unlikely = -torch.log((1 - chances).clamp(min=1e-5))
        yield (unlikely * again).sum() / again.sum().clamp(min=1)


class DraftStage(Stage):
    """The draft learns the target's distribution over the training text, and over what the target itself writes.

    A draft is asked about the target's own text, so that text is what it must know best; there the distributions
    were kept when the text was written, and the likeliest token, which greedy decoding asks for, counts once more.
    """

    name, lr = "draft", 2e-3

    def __init__(
        self, model: Any, target: Any, material: Material, options: argparse.Namespace, minutes: float | None
    ) -> None:
        super().__init__(model, material, options, minutes)
        self.target = target
        self.rollouts = Rollouts(target, material, options.seed)

    def losses(self, progress: float) -> Iterator[Tensor]:
        length = CONTEXT // 2
        rows = self.text_rows(self.options.batch // 4 // length, length)
        with torch.no_grad():
            wanted = self.target(input_ids=rows[:, :-1], use_cache=False).logits.float().log_softmax(-1)
        guessed = self.model(input_ids=rows[:, :-1], use_cache=False).logits.float().log_softmax(-1)
        yield 0.5 * (wanted.exp() * (wanted - guessed)).sum(-1).mean()
        for text in self.rollouts.replayed(self.step, self.options.batch * 3 // 4):
            scores = self.model(input_ids=text.rows[:, :-1], use_cache=False).logits[:, text.prompt - 1 :].float()
            known = scores.log_softmax(-1).gather(2, text.likely.long())
            yield -0.5 * ((text.chances * known).sum(-1) + known[..., 0]).mean()
