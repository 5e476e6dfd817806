#!/usr/bin/env python3
"""Whether all engines compute the same: the logits after a short prompt, on the same weights.

    python scripts/peers/check.py MODEL_DIR [--ragweave target/release/ragweave-eval] [--tokens N]

PyTorch in f32 is what the others are held against. Fails where another token has the largest logit,
or where a logit is further off than a share of the logits' standard deviation. On the shape of
SmolLM2-135M llama.cpp is off by 0.003 of it and bf16 by 0.08; weights with the rows of Q and K in the
wrong order would be by 0.4.
"""

import argparse
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from bench_llama import FLASH, LlamaEngine, LlamaModel
from bench_torch import TorchEngine
from measure import prompt_ids

LIMITS = {"f32": 0.001, "f16": 0.02, "bf16": 0.2}


def torch_logits(directory: Path, dtype: str, ids: list[int]) -> np.ndarray:
    return TorchEngine(directory, dtype, threads=1).forward(ids).float().numpy()


def llama_logits(model: LlamaModel, flash: int, ids: list[int]) -> np.ndarray:
    return LlamaEngine(model, len(ids), threads=1, flash=flash).forward(ids)


def ragweave_logits(binary: Path, directory: Path, dtype: str, ids: list[int]) -> np.ndarray:
    tokens = ",".join(map(str, ids))
    command = [binary, "logits", "--model", directory, "--dtype", dtype, "--tokens", tokens, "--json"]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    return np.array(json.loads(output)["logits"], dtype=np.float32)


def others(
    directory: Path, ragweave: Path | None, ids: list[int]
) -> Iterator[tuple[str, str, np.ndarray]]:
    """Name, dtype and logits of every engine but PyTorch in f32."""
    yield "torch", "bf16", torch_logits(directory, "bf16", ids)
    model = LlamaModel(directory)
    for name, flash in FLASH.items():
        yield f"llama.cpp, {name}", "f16", llama_logits(model, flash, ids)
    if ragweave is not None:
        for dtype in ("f32", "f16"):
            yield "ragweave", dtype, ragweave_logits(ragweave, directory, dtype, ids)


def agrees(name: str, dtype: str, logits: np.ndarray, expected: np.ndarray) -> bool:
    """Prints one engine's distance, and says whether it is within bounds."""
    off = np.abs(logits - expected).max() / expected.std()
    same_token = logits.argmax() == expected.argmax()
    verdict = same_token and bool(off <= LIMITS[dtype])
    print(
        f"{name:20} {dtype:4}  largest difference {off:.5f} of the standard deviation, "
        f"{'the same' if same_token else 'ANOTHER'} token: {'ok' if verdict else 'DIFFERS'}"
    )
    return verdict


def main() -> None:
    flags = argparse.ArgumentParser(description="Compares the logits of the engines.")
    flags.add_argument("model", type=Path, help="directory made by make_weights.py")
    flags.add_argument("--ragweave", type=Path, metavar="BIN", help="ragweave-eval, to check it too")
    flags.add_argument("--tokens", type=int, default=200, metavar="N", help="of the prompt")
    arguments = flags.parse_args()
    vocab_size = json.loads((arguments.model / "config.json").read_text())["vocab_size"]
    ids = prompt_ids(vocab_size, arguments.tokens)
    expected = torch_logits(arguments.model, "f32", ids)
    print(f"torch f32: token {expected.argmax()}, standard deviation {expected.std():.4f}")
    compared = others(arguments.model, arguments.ragweave, ids)
    verdicts = [agrees(name, dtype, logits, expected) for name, dtype, logits in compared]
    if not all(verdicts):
        raise SystemExit("the engines do not compute the same")


if __name__ == "__main__":
    main()
