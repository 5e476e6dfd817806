#!/usr/bin/env python3
"""Prefill and decode of PyTorch with transformers: SDPA attention and the KV cache of `generate`.

    python scripts/peers/bench_torch.py MODEL_DIR [--dtype f32|bf16] [--prompt-tokens P]
        [--decode-tokens D] [--repeats R] [--threads N]

Prints one JSON line. Only the last position of the prompt gets logits.
"""

from pathlib import Path

import torch
from measure import parser, print_line, prompt_ids, try_each
from transformers import AutoModelForCausalLM, DynamicCache
from transformers.utils import logging

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


class TorchEngine:
    """A model of transformers with a growing KV cache."""

    def __init__(self, directory: Path, dtype: str, threads: int):
        logging.disable_progress_bar()
        torch.set_num_threads(threads)
        model = AutoModelForCausalLM.from_pretrained(
            directory, dtype=DTYPES[dtype], attn_implementation="sdpa"
        )
        self.model = model.eval()
        self.vocab_size = model.config.vocab_size
        self.cache = DynamicCache(config=model.config)

    def prefill(self, ids: list[int]) -> int:
        self.cache = DynamicCache(config=self.model.config)
        return int(self.forward(ids).argmax())

    def step(self, token: int) -> int:
        return int(self.forward([token]).argmax())

    @torch.inference_mode()
    def forward(self, ids: list[int]) -> torch.Tensor:
        """Logits after the last of `ids`: [vocab_size]."""
        output = self.model(
            torch.tensor([ids]), past_key_values=self.cache, use_cache=True, logits_to_keep=1
        )
        return output.logits[0, -1]


def main() -> None:
    flags = parser("Times PyTorch with transformers.")
    flags.add_argument("--dtype", choices=DTYPES, default="f32")
    arguments = flags.parse_args()
    engine = TorchEngine(arguments.model, arguments.dtype, arguments.threads)
    ids = prompt_ids(engine.vocab_size, arguments.prompt_tokens)
    variants = try_each({"sdpa": lambda: engine}, ids, arguments)
    print_line(f"torch {torch.__version__.split('+')[0]}", arguments.dtype, arguments, variants)


if __name__ == "__main__":
    main()
