#!/usr/bin/env python3
"""Full prefill and decode of PyTorch with transformers on a GPU: SDPA attention, random weights, nothing read from disk.

    python scripts/peers/bench_torch_cuda.py CONFIG.json [--prompt-tokens P]...
        [--decode-tokens D] [--repeats R] [--device cuda|cpu] [--dtype bf16|f32]

Prints one line per prompt length: medians of the time to the first token and of the decode rate.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def load(config_file: Path, device: str, dtype: torch.dtype) -> torch.nn.Module:
    fields = json.loads(config_file.read_text())
    config = AutoConfig.for_model(fields.pop("model_type"), **fields)
    torch.manual_seed(1)
    torch.set_default_dtype(dtype)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()


@torch.inference_mode()
def step(model: torch.nn.Module, ids: torch.Tensor, cache: DynamicCache) -> torch.Tensor:
    """The next token after the last of `ids`, on the host: [1, 1]."""
    output = model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return output.logits[:, -1:].argmax(-1).cpu()


def run(model: torch.nn.Module, ids: torch.Tensor, decode_tokens: int) -> tuple[float, float]:
    """Seconds to the first token, and tokens per second after it."""
    cache = DynamicCache(config=model.config)
    start = time.perf_counter()
    token = step(model, ids, cache)
    first = time.perf_counter()
    for _ in range(decode_tokens):
        token = step(model, token.to(ids.device), cache)
    return first - start, decode_tokens / (time.perf_counter() - first)


def main() -> None:
    flags = argparse.ArgumentParser(description="Times PyTorch with transformers on a GPU.")
    flags.add_argument("config", type=Path, help="config.json of a model shape")
    flags.add_argument("--prompt-tokens", type=int, action="append", metavar="P")
    flags.add_argument("--decode-tokens", type=int, default=64, metavar="D")
    flags.add_argument("--repeats", type=int, default=5, metavar="R", help="after one to warm up")
    flags.add_argument("--device", default="cuda")
    flags.add_argument("--dtype", choices=DTYPES, default="bf16")
    arguments = flags.parse_args()
    model = load(arguments.config, arguments.device, DTYPES[arguments.dtype])
    for tokens in arguments.prompt_tokens or [3168]:
        ids = torch.randint(model.config.vocab_size, (1, tokens), device=arguments.device)
        runs = [run(model, ids, arguments.decode_tokens) for _ in range(arguments.repeats + 1)][1:]
        first, rate = (statistics.median(values) for values in zip(*runs))
        print(
            f"torch {torch.__version__}, {arguments.config.stem}, {arguments.dtype}, {tokens} tokens: "
            f"first token {first * 1000:.1f} ms, decode {rate:.1f} tok/s",
            flush=True,
        )


if __name__ == "__main__":
    main()
