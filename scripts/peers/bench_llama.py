#!/usr/bin/env python3
"""Prefill and decode of llama.cpp with and without flash attention, on a GGUF file or on the f16 weights of a directory.

    python scripts/peers/bench_llama.py MODEL [--prompt-tokens P] [--decode-tokens D]
        [--repeats R] [--threads N]

Prints one JSON line with both variants and the better of each rate; and, on standard error, what
instructions llama.cpp was compiled for. Only the last position of the prompt gets logits.
"""

import ctypes
import sys
from functools import partial
from pathlib import Path

import llama_cpp
import numpy as np
from make_weights import GGUF_NAME
from measure import parser, print_line, prompt_ids, try_each

BATCH = 512
FLASH = {
    "flash": llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED,
    "no flash": llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED,
}


@llama_cpp.llama_log_callback
def be_quiet(_level, _text, _data):
    """llama.cpp prints a lot while it loads."""


class LlamaModel:
    """The weights; contexts share them."""

    def __init__(self, model: Path):
        llama_cpp.llama_log_set(be_quiet, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        path = model / GGUF_NAME if model.is_dir() else model
        parameters = llama_cpp.llama_model_default_params()
        self.handle = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
        if not self.handle:
            raise SystemExit(f"{path}: llama.cpp cannot load it")
        vocab = llama_cpp.llama_model_get_vocab(self.handle)
        self.vocab_size = llama_cpp.llama_vocab_n_tokens(vocab)

    @property
    def description(self) -> str:
        """Architecture, size and type of the weights, as llama.cpp words them."""
        text = ctypes.create_string_buffer(128)
        llama_cpp.llama_model_desc(self.handle, text, len(text))
        return text.value.decode()


class LlamaEngine:
    """A context of llama.cpp; KV is kept in f16, its default."""

    def __init__(self, model: LlamaModel, n_tokens: int, threads: int, flash: int):
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = n_tokens
        parameters.n_batch = parameters.n_ubatch = BATCH
        parameters.n_threads = parameters.n_threads_batch = threads
        parameters.flash_attn_type = flash
        self.vocab_size = model.vocab_size
        self.context = llama_cpp.llama_init_from_model(model.handle, parameters)
        if not self.context:
            raise SystemExit("llama.cpp cannot make a context")
        self.batch = llama_cpp.llama_batch_init(BATCH, 0, 1)
        self.n_past = 0

    def __del__(self):
        llama_cpp.llama_batch_free(self.batch)
        llama_cpp.llama_free(self.context)

    def prefill(self, ids: list[int]) -> int:
        memory = llama_cpp.llama_get_memory(self.context)
        llama_cpp.llama_memory_clear(memory, False)
        self.n_past = 0
        return int(self.forward(ids).argmax())

    def step(self, token: int) -> int:
        return int(self.forward([token]).argmax())

    def forward(self, ids: list[int]) -> np.ndarray:
        """Logits after the last of `ids`: [vocab_size]."""
        for start in range(0, len(ids), BATCH):
            self.decode(ids[start : start + BATCH], is_last=start + BATCH >= len(ids))
        logits = llama_cpp.llama_get_logits_ith(self.context, -1)
        # Copied: the context owns what it points to.
        return np.ctypeslib.as_array(logits, shape=(self.vocab_size,)).copy()

    def decode(self, ids: list[int], is_last: bool) -> None:
        self.batch.n_tokens = len(ids)
        for row, token in enumerate(ids):
            self.batch.token[row] = token
            self.batch.pos[row] = self.n_past + row
            self.batch.n_seq_id[row] = 1
            self.batch.seq_id[row][0] = 0
            self.batch.logits[row] = is_last and row == len(ids) - 1
        status = llama_cpp.llama_decode(self.context, self.batch)
        if status != 0:
            raise SystemExit(f"llama_decode failed with {status}")
        self.n_past += len(ids)


def main() -> None:
    arguments = parser("Times llama.cpp.").parse_args()
    print(llama_cpp.llama_print_system_info().decode(), file=sys.stderr)
    model = LlamaModel(arguments.model)
    ids = prompt_ids(model.vocab_size, arguments.prompt_tokens)
    n_tokens = arguments.prompt_tokens + arguments.decode_tokens
    make = partial(LlamaEngine, model, n_tokens, arguments.threads)
    variants = try_each({name: partial(make, flash) for name, flash in FLASH.items()}, ids, arguments)
    print_line(f"llama.cpp ({llama_cpp.__version__})", model.description, arguments, variants)


if __name__ == "__main__":
    main()
