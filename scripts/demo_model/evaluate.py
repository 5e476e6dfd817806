"""An independent PyTorch reference of every way to build the prompt's KV, scored on the demo questions.

    python scripts/demo_model/evaluate.py --model demo/model --demo demo

Full prefill, full reuse, and selective recompute: `hkvd@c` (check layer c), `first-k`, `random`. It shares no code with the engine and
follows docs/fusion.md: K is kept before RoPE, the first chunk comes right after the prefix and is exact, exact rows are never
candidates, the budget is ceil(ratio * non-exact context tokens), and fresh K and V of the check layer are kept for all non-exact rows.
"""

import argparse
import json
import math
import random
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

from export import load
from network import DemoNetwork, rope_tables, rotate
from vocabulary import EOS

PREFIX_TEXT = "<s>Answer from the notes."
RATIOS = (0.05, 0.1, 0.15, 0.2, 0.3)
CHECK_LAYERS = (1, 2)
RANDOM_SEED = 7
MAX_FULL_DIFFERENCE = 1e-3  # logits: recomputing every non-exact row must be full prefill

LayerKv = tuple[torch.Tensor, torch.Tensor]  # K before RoPE and V, each [heads, tokens, head_dim]


@dataclass(frozen=True)
class Method:
    """How the context's KV is made: `full`, `reuse`, `first-k`, `random`, or `hkvd` with its check layer."""

    name: str
    ratio: float = 0.0
    check_layer: int | None = None

    def __str__(self) -> str:
        at = f"@{self.check_layer}" if self.check_layer is not None else ""
        return f"{self.name}{at}" + (f" {self.ratio:.0%}" if self.ratio else "")


@dataclass
class Prompt:
    """prefix | chunk 1 | ... | chunk n | question, in token ids."""

    prefix: list[int]
    chunks: list[list[int]]
    question: list[int]

    @property
    def ids(self) -> list[int]:
        return self.prefix + [i for chunk in self.chunks for i in chunk] + self.question

    def spans(self) -> list[range]:
        spans, start = [], len(self.prefix)
        for chunk in self.chunks:
            spans.append(range(start, start + len(chunk)))
            start += len(chunk)
        return spans

    def non_exact(self) -> list[int]:
        """Context rows whose stored KV was computed after other tokens than the prompt's: all but the prefix and the first chunk."""
        return [row for span in self.spans()[1:] for row in span]

    def question_rows(self) -> list[int]:
        n = len(self.ids)
        return list(range(n - len(self.question), n))


class Sequence:
    """The fused KV of one prompt, and what is computed over it. Rows not yet written hold zeros; the mask hides them."""

    def __init__(self, network: DemoNetwork, ids: list[int], stored: list[LayerKv] | None):
        self.network, self.ids = network, ids
        config = network.config
        shape = (config.n_heads, len(ids), config.head_dim)
        self.kv = [(torch.zeros(shape), torch.zeros(shape)) for _ in range(config.n_layers)]
        for (k, v), (stored_k, stored_v) in zip(self.kv, stored or []):
            k[:, : stored_k.shape[1]], v[:, : stored_v.shape[1]] = stored_k, stored_v

    def compute(self, rows: list[int], choose=None, check_layer: int | None = None) -> torch.Tensor:
        """Runs `rows` through all layers. At the check layer `choose(deviation of each row)` says which rows go on.

        Returns the logits of the last row."""
        x = self.network.embedding(torch.tensor([self.ids[row] for row in rows]))[None]
        for layer in range(self.network.config.n_layers):
            q, k, v = self.network.blocks[layer].project(x)
            deviation = self._write(layer, rows, k[0], v[0])
            if layer == check_layer:
                kept = choose(dict(zip(rows, deviation.tolist())))
                at = [i for i, row in enumerate(rows) if row in kept]
                rows, x, q = [rows[i] for i in at], x[:, at], q[:, :, at]
            x = self._attend(layer, rows, x, q)
        return self.network.logits(x[0, -1])

    def append(self, token: int) -> torch.Tensor:
        """Logits after one more token."""
        self.ids = self.ids + [token]
        self.kv = [(F.pad(k, (0, 0, 0, 1)), F.pad(v, (0, 0, 0, 1))) for k, v in self.kv]
        return self.compute([len(self.ids) - 1])

    def _write(self, layer: int, rows: list[int], k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Overwrites the rows' KV; returns the squared L2 distance to what was there."""
        stored_k, stored_v = self.kv[layer]
        deviation = (k - stored_k[:, rows]).pow(2).sum((0, 2)) + (v - stored_v[:, rows]).pow(2).sum((0, 2))
        stored_k[:, rows], stored_v[:, rows] = k, v
        return deviation

    def _attend(self, layer: int, rows: list[int], x: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        config, block, (k, v) = self.network.config, self.network.blocks[layer], self.kv[layer]
        at, everywhere = torch.tensor(rows), torch.arange(k.shape[1])
        q, k = rotate(q, *rope_tables(at, config)), rotate(k[None], *rope_tables(everywhere, config))
        mask = everywhere[None] <= at[:, None]
        return block.finish(x, F.scaled_dot_product_attention(q, k, v[None], attn_mask=mask))


class Reference:
    """Chunk KV, each computed alone after the conditioning prefix, and answers over it."""

    def __init__(self, network: DemoNetwork, prefix: list[int]):
        self.network, self.prefix = network, prefix
        self._chunk_kv: dict[tuple[int, ...], list[LayerKv]] = {}
        alone = Sequence(network, prefix, None)
        alone.compute(list(range(len(prefix))))
        self.prefix_kv = alone.kv

    def chunk_kv(self, chunk: list[int]) -> list[LayerKv]:
        key = tuple(chunk)
        if key not in self._chunk_kv:
            n = len(self.prefix)
            alone = Sequence(self.network, self.prefix + chunk, None)
            alone.compute(list(range(n + len(chunk))))
            self._chunk_kv[key] = [(k[:, n:], v[:, n:]) for k, v in alone.kv]
        return self._chunk_kv[key]

    def stored(self, prompt: Prompt) -> list[LayerKv]:
        parts = [self.prefix_kv, *(self.chunk_kv(chunk) for chunk in prompt.chunks)]
        return [(torch.cat([p[0] for p in layer], 1), torch.cat([p[1] for p in layer], 1)) for layer in zip(*parts)]

    def prefill(self, prompt: Prompt, method: Method, rng: random.Random) -> tuple[Sequence, torch.Tensor]:
        """The prompt's KV under `method`, and the logits of its last token."""
        ids, question = prompt.ids, prompt.question_rows()
        if method.name == "full":
            sequence = Sequence(self.network, ids, None)
            return sequence, sequence.compute(list(range(len(ids))))
        sequence, candidates = Sequence(self.network, ids, self.stored(prompt)), prompt.non_exact()
        if method.name == "hkvd":
            budget = math.ceil(method.ratio * len(candidates))

            def choose(deviation: dict[int, float]) -> set[int]:
                ranked = sorted(candidates, key=lambda row: (-deviation[row], row))
                return {*ranked[:budget], *question}

            return sequence, sequence.compute(candidates + question, choose, method.check_layer)
        return sequence, sequence.compute(_fixed_rows(prompt, method, rng) + question)

    def answer(self, prompt: Prompt, method: Method, rng: random.Random, n_tokens: int) -> list[int]:
        """Greedy, `n_tokens` tokens."""
        sequence, logits = self.prefill(prompt, method, rng)
        tokens = [int(logits.argmax())]
        while len(tokens) < n_tokens:
            tokens.append(int(sequence.append(tokens[-1]).argmax()))
        return tokens


def _fixed_rows(prompt: Prompt, method: Method, rng: random.Random) -> list[int]:
    """Context rows to recompute that do not depend on values."""
    candidates = prompt.non_exact()
    if method.name in ("reuse", "all"):
        return candidates if method.name == "all" else []
    if method.name == "random":
        return sorted(rng.sample(candidates, math.ceil(method.ratio * len(candidates))))
    assert method.name == "first-k", method
    return [row for span in prompt.spans()[1:] for row in span[: math.ceil(method.ratio * len(span))]]


def methods() -> list[Method]:
    by_ratio = [
        *(Method("hkvd", ratio, layer) for layer in CHECK_LAYERS for ratio in RATIOS),
        *(Method(name, ratio) for name in ("first-k", "random") for ratio in RATIOS),
    ]
    return [Method("full"), Method("reuse"), *by_ratio]


def read_prompts(demo: Path, encode, prefix: list[int]):
    """Yields (question row, prompt, ids of the answer and </s>)."""
    for line in (demo / "questions.jsonl").read_text().splitlines():
        row = json.loads(line)
        texts = [(demo / "corpus" / chunk.removesuffix("#0")).read_text() for chunk in row["context_chunks"]]
        prompt = Prompt(prefix, [encode("\n- " + text) for text in texts], encode(f"\nQ: {row['question']}\nA:"))
        yield row, prompt, [*encode(" " + row["answers"][0]), EOS]


def check_full_recompute(reference: Reference, prompt: Prompt) -> float:
    """Stored prefix and first chunk, all other rows recomputed: must give the logits of full prefill. Reuse must not."""
    full, forced = (reference.prefill(prompt, Method(name), random.Random(0))[1] for name in ("full", "all"))
    reused = reference.prefill(prompt, Method("reuse"), random.Random(0))[1]
    difference = (full - forced).abs().max().item()
    assert torch.isfinite(full).all() and difference < MAX_FULL_DIFFERENCE, difference
    assert (full - reused).abs().max().item() > MAX_FULL_DIFFERENCE, "reuse should differ from full prefill"
    return difference


def print_table(right: dict, asked: dict[str, int]):
    kinds = sorted(asked, key=lambda kind: (kind not in ("all", "local", "cross"), kind))
    print("| method | " + " | ".join(f"{kind} ({asked[kind]})" for kind in kinds) + " |")
    print("|---" + "|---:" * len(kinds) + "|")
    for method in methods():
        cells = (f"{right[method, kind] / asked[kind]:.3f}" for kind in kinds)
        print(f"| {method} | " + " | ".join(cells) + " |")


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--demo", type=Path, required=True, help="folder with corpus/ and questions.jsonl")
    parser.add_argument("--limit", type=int, help="only the first LIMIT questions")
    args = parser.parse_args()
    torch.set_num_threads(1)
    network, tokenizer = load(args.model)

    def encode(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False).ids

    reference = Reference(network, encode(PREFIX_TEXT))
    right, asked, worst = defaultdict(int), defaultdict(int), 0.0
    prompts = list(read_prompts(args.demo, encode, reference.prefix))[: args.limit]
    for n, (row, prompt, expected) in enumerate(prompts):
        worst = max(worst, check_full_recompute(reference, prompt))
        kinds = {"all", row["type"], "cross" if row["type"].startswith("x_") else "local"}
        for kind in kinds:
            asked[kind] += 1
        for method in methods():
            rng = random.Random(f"{RANDOM_SEED}/{n}")
            correct = reference.answer(prompt, method, rng, len(expected)) == expected
            for kind in kinds:
                right[method, kind] += correct
    print_table(right, asked)
    print(f"\nLargest logit difference between recomputing every non-exact row and full prefill: {worst:.1e}")


if __name__ == "__main__":
    main()
