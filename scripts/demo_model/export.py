"""Writes and reads the demo model in the Hugging Face layout, with the prompt format in `ragweave.toml`."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from network import DemoNetwork, NetworkConfig
from vocabulary import BOS, EOS, PAD

MAX_NEW_TOKENS = 8
BLOCK_NAMES = {
    "attention_norm": "input_layernorm.weight",
    "mlp_norm": "post_attention_layernorm.weight",
    "q.weight": "self_attn.q_proj.weight",
    "k.weight": "self_attn.k_proj.weight",
    "v.weight": "self_attn.v_proj.weight",
    "o.weight": "self_attn.o_proj.weight",
    "gate.weight": "mlp.gate_proj.weight",
    "up.weight": "mlp.up_proj.weight",
    "down.weight": "mlp.down_proj.weight",
}
RAGWEAVE_TOML = r'''[prompt]
prefix = "<s>Answer from the notes."
chunk = "\n- {text}"
question = "\nQ: {question}\nA:"

[fusion]
selection = "hkvd@2"
'''


def export(network: DemoNetwork, tokenizer: Tokenizer, out: Path):
    """Writes a complete model directory; the auxiliary heads are left out. Weights are f32."""
    out.mkdir(parents=True, exist_ok=True)
    state = network.state_dict()
    tensors = {theirs: state[ours].contiguous() for ours, theirs in _names(network.config.n_layers).items()}
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save(str(out / "tokenizer.json"))
    (out / "ragweave.toml").write_text(RAGWEAVE_TOML)
    ids = {"bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": PAD}
    _write_json(out / "config.json", {**_model_config(network.config), **ids})
    _write_json(out / "generation_config.json", {**ids, "do_sample": False, "max_new_tokens": MAX_NEW_TOKENS})
    _write_json(out / "tokenizer_config.json", _tokenizer_config(network.config))


def load(directory: Path) -> tuple[DemoNetwork, Tokenizer]:
    """Reads what `export` wrote, for the evaluation."""
    raw = json.loads((directory / "config.json").read_text())
    config = NetworkConfig(
        vocab_size=raw["vocab_size"], hidden_size=raw["hidden_size"], n_layers=raw["num_hidden_layers"],
        n_heads=raw["num_attention_heads"], intermediate_size=raw["intermediate_size"], rope_theta=raw["rope_theta"],
        rms_norm_eps=raw["rms_norm_eps"], max_position=raw["max_position_embeddings"],
    )
    tensors = load_file(directory / "model.safetensors")
    network = DemoNetwork(config)
    state = {ours: tensors[theirs] for ours, theirs in _names(config.n_layers).items()}
    missing, unexpected = network.load_state_dict(state, strict=False)
    assert not unexpected and all(name.startswith("aux_") for name in missing), (missing, unexpected)
    return network.eval(), Tokenizer.from_file(str(directory / "tokenizer.json"))


def _names(n_layers: int) -> dict[str, str]:
    """Our parameter names -> Hugging Face names."""
    names = {"embedding.weight": "model.embed_tokens.weight", "final_norm": "model.norm.weight"}
    for layer in range(n_layers):
        names |= {f"blocks.{layer}.{ours}": f"model.layers.{layer}.{theirs}" for ours, theirs in BLOCK_NAMES.items()}
    return names


def _model_config(config: NetworkConfig) -> dict:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.n_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": config.max_position,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_theta": config.rope_theta,
        "rope_scaling": None,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "initializer_range": 0.02,
        "use_cache": True,
        "torch_dtype": "float32",
    }


def _tokenizer_config(config: NetworkConfig) -> dict:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "<pad>",
        "add_bos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": config.max_position,
    }


def _write_json(path: Path, value: dict):
    path.write_text(json.dumps(value, indent=1) + "\n")
