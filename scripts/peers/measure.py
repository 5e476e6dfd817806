"""What the benches of all engines share: their flags, the prompt, the clock and the line they print."""

import argparse
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Protocol


class Engine(Protocol):
    """One sequence of one model. Tokens are chosen by largest logit."""

    def prefill(self, ids: list[int]) -> int:
        """Forgets what was before, computes the prompt, and gives the first token of the answer."""

    def step(self, token: int) -> int:
        """Takes one token of the answer and gives the next."""


@dataclass(frozen=True)
class Run:
    """Seconds of one prompt and of the tokens generated after it."""

    prefill_s: float
    decode_s: float


def parser(description: str) -> argparse.ArgumentParser:
    flags = argparse.ArgumentParser(description=description)
    flags.add_argument("model", type=Path, help="directory made by make_weights.py; for llama.cpp also a GGUF file")
    flags.add_argument("--prompt-tokens", type=int, default=3136, metavar="P")
    flags.add_argument("--decode-tokens", type=int, default=32, metavar="D")
    flags.add_argument("--repeats", type=int, default=5, metavar="R", help="after one to warm up")
    flags.add_argument("--threads", type=int, default=2, metavar="N")
    return flags


def prompt_ids(vocab_size: int, n_tokens: int) -> list[int]:
    return random.Random(0).choices(range(vocab_size), k=n_tokens)


def run_once(engine: Engine, ids: list[int], decode_tokens: int) -> Run:
    start = time.perf_counter()
    token = engine.prefill(ids)
    first = time.perf_counter()
    for _ in range(decode_tokens):
        token = engine.step(token)
    return Run(first - start, time.perf_counter() - first)


def rates(engine: Engine, ids: list[int], arguments: argparse.Namespace) -> dict[str, float]:
    """Medians of the repeats, in tokens per second."""
    runs = [run_once(engine, ids, arguments.decode_tokens) for _ in range(arguments.repeats + 1)]
    measured = runs[1:]
    return {
        "prefill_tokens_per_s": len(ids) / median(run.prefill_s for run in measured),
        "decode_tokens_per_s": arguments.decode_tokens / median(run.decode_s for run in measured),
    }


def best(variants: dict[str, dict[str, float]]) -> dict[str, float]:
    """The larger of each rate, whichever variant it is from."""
    names = next(iter(variants.values()))
    return {name: max(rates[name] for rates in variants.values()) for name in names}


def print_line(
    engine: str, dtype: str, arguments: argparse.Namespace, variants: dict[str, dict[str, float]]
) -> None:
    """`variants`: rates of each way to set the engine up that was tried."""
    line = {
        "engine": engine,
        "dtype": dtype,
        "threads": arguments.threads,
        "prompt_tokens": arguments.prompt_tokens,
        "decode_tokens": arguments.decode_tokens,
        "repeats": arguments.repeats,
    }
    print(json.dumps(line | best(variants) | {"variants": variants}), flush=True)


def try_each(
    variants: dict[str, Callable[[], Engine]], ids: list[int], arguments: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """The rates of each variant; each engine is made for its turn and dropped before the next."""
    return {name: rates(make(), ids, arguments) for name, make in variants.items()}
