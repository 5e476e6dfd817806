"""Trains the demo model from scratch and writes it in the Hugging Face layout.

    python scripts/demo_model/train.py --out demo/model --seed 1

One process, one thread, no network. The same seed on the same machine and library versions draws the same data and the same init.
"""

import argparse
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from batches import Batch, BatchStream, Stage
from export import export
from muon import Muon
from network import DemoNetwork, NetworkConfig
from objective import StepResult, objective
from vocabulary import Vocabulary, train_tokenizer

WARMUP_STEPS = 20
DECAY_SHARE = 0.6  # of a decaying phase: the rate falls linearly to its floor over this last part
MIN_RATE = 0.02
ADAM_BETAS = (0.9, 0.98)
MAX_GRADIENT_NORM = 1.0  # of what Adam trains; Muon's updates have a fixed size
LOG_EVERY = 50
CHECKPOINT_EVERY = 100

# Curriculum: from two chunks of two sentences to six of five. Larger contexts at once never leave "any name of the right class".
TINY = Stage(250, 24, 128, 4, n_chunks=(2, 2), n_sentences=(2, 2), p_reference=0.9)
SMALL = Stage(250, 20, 200, 7, n_chunks=(2, 3), n_sentences=(2, 3), p_reference=0.8)
MEDIUM = Stage(100, 16, 336, 12, n_chunks=(3, 4), n_sentences=(3, 4), p_reference=0.7)
LARGE = Stage(600, 12, 456, 12, n_chunks=(4, 6), n_sentences=(4, 5), p_reference=0.6)


@dataclass(frozen=True)
class Phase:
    """A stretch of training with fresh optimizers and its own learning rates."""

    stages: tuple[Stage, ...]
    muon_rate: float
    adam_rate: float
    attention_weight: float
    decays: bool

    @property
    def steps(self) -> int:
        return sum(stage.steps for stage in self.stages)

    def rate(self, step: int) -> float:
        """Factor on the learning rates at `step` of this phase."""
        factor = min(1.0, (step + 1) / WARMUP_STEPS)
        if self.decays:
            factor *= min(1.0, (1 - step / self.steps) / DECAY_SHARE)
        return max(factor, MIN_RATE)


PHASES = (
    Phase((TINY, SMALL, MEDIUM), 0.010, 0.0030, attention_weight=0.3, decays=False),
    Phase((replace(MEDIUM, steps=300), LARGE), 0.008, 0.0020, attention_weight=0.5, decays=True),
    Phase((replace(LARGE, steps=330),), 0.006, 0.0015, attention_weight=0.5, decays=True),
)


class Trainer:
    def __init__(self, seed: int, checkpoints: Path | None):
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        self.tokenizer = train_tokenizer()
        vocabulary = Vocabulary(self.tokenizer)
        self.network = DemoNetwork(NetworkConfig(len(vocabulary)), vocabulary.name_classes())
        self.forward = torch.compile(self.network.train_forward, dynamic=False)
        self.stream = BatchStream(vocabulary, seed)
        self.checkpoints, self.log = checkpoints, Log(sum(phase.steps for phase in PHASES))
        print(f"{self.network.exported_parameters()} parameters, {len(vocabulary)} tokens", flush=True)

    def train(self):
        for phase in PHASES:
            self._run(phase)

    def _run(self, phase: Phase):
        matrices, others = split_parameters(self.network)
        optimizers = [
            (Muon(matrices, lr=phase.muon_rate), phase.muon_rate),
            (torch.optim.AdamW(others, lr=phase.adam_rate, betas=ADAM_BETAS, weight_decay=0.0), phase.adam_rate),
        ]
        batches = (batch for stage in phase.stages for batch in self.stream.batches(stage))
        for step, batch in enumerate(batches):
            result = self._loss(batch, phase.attention_weight)
            self.network.zero_grad()
            result.loss.backward()
            torch.nn.utils.clip_grad_norm_(others, MAX_GRADIENT_NORM)
            for optimizer, rate in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = rate * phase.rate(step)
                optimizer.step()
            self.log.add(batch, result)
            if self.checkpoints and self.log.step % CHECKPOINT_EVERY == 0:
                export(self.network, self.tokenizer, self.checkpoints)

    def _loss(self, batch: Batch, attention_weight: float) -> StepResult:
        with torch.autocast("cpu", torch.bfloat16):
            logits, outs = self.forward(
                batch.ids, batch.positions, batch.mask, batch.logit_rows,
                batch.mention_at, batch.value_at, batch.question_rows, batch.mention_rows,
            )
        return objective(logits, outs, batch, attention_weight)


def split_parameters(network: DemoNetwork):
    """Muon takes the weight matrices; Adam takes the embedding and the norms."""
    matrices, others = [], []
    for name, parameter in network.named_parameters():
        is_matrix = parameter.ndim == 2 and not name.startswith("embedding")
        (matrices if is_matrix else others).append(parameter)
    return matrices, others


class Log:
    """Prints running means: losses, read-out accuracies and answer accuracy per kind of question."""

    def __init__(self, total: int):
        self.total, self.step, self.tokens, self.started = total, 0, 0, time.monotonic()
        self._reset()

    def _reset(self):
        self.figures, self.n = defaultdict(float), 0
        self.right, self.asked = defaultdict(int), defaultdict(int)

    def add(self, batch: Batch, result: StepResult):
        self.step += 1
        self.n += 1
        self.tokens += batch.ids.numel()
        for name, figure in result.figures.items():
            self.figures[name] += figure
        for row, kind in batch.answers:
            self.right[kind] += int(result.correct[row])
            self.asked[kind] += 1
        if self.step % LOG_EVERY == 0 or self.step in (10, 25):
            self._print()
            self._reset()

    def _print(self):
        seconds = time.monotonic() - self.started
        figures = " ".join(f"{name} {total / self.n:.3f}" for name, total in self.figures.items())
        kinds = " ".join(f"{kind}:{self.right[kind] / n:.2f}" for kind, n in sorted(self.asked.items()))
        print(f"{self.step}/{self.total} {seconds:.0f}s {self.tokens / seconds:.0f}tok/s {figures} | {kinds}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="model directory to write")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--checkpoints", type=Path, help="directory for an export every 100 steps (default: none)")
    args = parser.parse_args()
    trainer = Trainer(args.seed, args.checkpoints)
    trainer.train()
    export(trainer.network, trainer.tokenizer, args.out)
    print(f"{args.out}: {trainer.log.tokens} tokens trained on", flush=True)


if __name__ == "__main__":
    main()
