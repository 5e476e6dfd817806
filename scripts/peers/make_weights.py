#!/usr/bin/env python3
"""Random weights in the shape of a model, the same for every engine.

    python scripts/peers/make_weights.py CONFIG.json OUT_DIR [--seed N]

Made with Python 3.11, torch 2.15.0, transformers 5.23.0, safetensors 0.8.0, gguf 0.19.0. Writes to
OUT_DIR a Hugging Face directory (config.json, model.safetensors in f32) and the same weights as
model.f16.gguf for llama.cpp. All values are ones that f16 can hold, so that no engine works on
weights another does not have. Needs memory for twice the weights in f32.
"""

import argparse
import json
import math
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

WEIGHT_STD = 0.02
GGUF_NAME = "model.f16.gguf"

# Families by `model_type`: their name in GGUF, and whether llama.cpp wants the rows of Q and K in
# the order of interleaved rotary pairs instead of halves.
FAMILIES = {
    "llama": ("llama", True),
    "mistral": ("llama", True),
    "qwen2": ("qwen2", False),
    "qwen3": ("qwen3", False),
}


def random_weights(config, seed: int) -> dict[str, torch.Tensor]:
    """Every weight of the model in f32, each value as f16 rounds it."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    shapes = {name: weight.shape for name, weight in model.state_dict().items()}
    if config.tie_word_embeddings:
        shapes.pop("lm_head.weight")
    generator = torch.Generator().manual_seed(seed)

    def draw(name: str) -> torch.Tensor:
        noise = WEIGHT_STD * torch.randn(shapes[name], generator=generator)
        return ((1.0 + noise) if "norm" in name else noise).half().float()

    return {name: draw(name) for name in sorted(shapes)}


def interleave_pairs(weight: np.ndarray, n_heads: int) -> np.ndarray:
    """Rows of each head from (all first halves, all second halves) to (first, second), ..."""
    halves = weight.reshape(n_heads, 2, -1, *weight.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def head_dim(config) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def rope_factors(config) -> np.ndarray | None:
    """What llama.cpp divides the rotary frequencies by, [head_dim / 2]; none for plain RoPE."""
    rope = config.rope_parameters
    if rope["rope_type"] == "default":
        return None
    if rope["rope_type"] != "llama3":
        raise SystemExit(f"rope_type {rope['rope_type']!r} is not written to GGUF here")
    exponents = torch.arange(0, head_dim(config), 2, dtype=torch.float64) / head_dim(config)
    wavelengths = 2 * math.pi * rope["rope_theta"] ** exponents
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    turns = rope["original_max_position_embeddings"] / wavelengths
    smooth = ((turns - low) / (high - low)).clamp(0.0, 1.0)
    return (1.0 / ((1.0 - smooth) / rope["factor"] + smooth)).float().numpy()


def add_hyperparameters(writer: gguf.GGUFWriter, config) -> None:
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head_dim(config))
    writer.add_value_length(head_dim(config))
    writer.add_rope_dimension_count(head_dim(config))
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    # Prompts are token ids: llama.cpp fills such a vocabulary with placeholders.
    writer.add_tokenizer_model("no_vocab")
    writer.add_vocab_size(config.vocab_size)


def gguf_tensor(name: str, weight: torch.Tensor, config) -> np.ndarray:
    """Matrices in f16, vectors in f32, as llama.cpp's own converter writes them."""
    array = weight.numpy()
    if FAMILIES[config.model_type][1]:
        if ".q_proj." in name:
            array = interleave_pairs(array, config.num_attention_heads)
        if ".k_proj." in name:
            array = interleave_pairs(array, config.num_key_value_heads)
    return array.astype(np.float16) if array.ndim == 2 else array


def write_gguf(path: Path, weights: dict[str, torch.Tensor], config) -> None:
    architecture = FAMILIES[config.model_type][0]
    by_name = {name: key for key, name in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(by_name[architecture], config.num_hidden_layers)
    writer = gguf.GGUFWriter(path, architecture)
    add_hyperparameters(writer, config)
    for name, weight in weights.items():
        gguf_name = names.get_name(name, try_suffixes=(".weight", ".bias"))
        writer.add_tensor(gguf_name, gguf_tensor(name, weight, config))
    factors = rope_factors(config)
    if factors is not None:
        writer.add_tensor("rope_freqs.weight", factors)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def check_family(config) -> None:
    if config.model_type not in FAMILIES:
        raise SystemExit(f"model_type {config.model_type!r}; known: {', '.join(FAMILIES)}")
    if getattr(config, "sliding_window", None) is not None:
        raise SystemExit("llama.cpp would not apply this model's sliding window")


def make(config_path: Path, directory: Path, seed: int) -> None:
    config = AutoConfig.from_pretrained(config_path)
    check_family(config)
    weights = random_weights(config, seed)
    directory.mkdir(parents=True, exist_ok=True)
    shape = json.loads(config_path.read_text()) | {"torch_dtype": "float32"}
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    write_gguf(directory / GGUF_NAME, weights, config)
    # Last: a directory with a config.json is complete.
    (directory / "config.json").write_text(json.dumps(shape, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Makes random weights for every engine.")
    parser.add_argument("config", type=Path, help="config.json of a model shape")
    parser.add_argument("out_dir", type=Path, help="directory to write")
    parser.add_argument("--seed", type=int, default=1, help="of the weights (default: 1)")
    arguments = parser.parse_args()
    make(arguments.config, arguments.out_dir, arguments.seed)


if __name__ == "__main__":
    main()
