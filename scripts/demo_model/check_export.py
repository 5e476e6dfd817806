"""Checks an exported model against Hugging Face transformers: equal logits, and two controls that must differ.

    python scripts/demo_model/check_export.py --model demo/model
"""

import argparse
import dataclasses
import random
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from batches import encode_context
from export import load
from network import DemoNetwork
from vocabulary import Vocabulary
from world import VALIDATION_SEEDS, WorldShape, make_world

N_WORLDS = 5
SHAPE = WorldShape(n_chunks=6, n_sentences=(4, 5), p_reference=0.6)
TOLERANCE = 1e-3
WRONG_THETA = 10_000.0
WEIGHT_CHANGE = 0.05


def largest_difference(network: DemoNetwork, theirs, contexts: list[list[int]]) -> float:
    worst = 0.0
    for ids in contexts:
        tokens, n = torch.tensor([ids]), len(ids)
        causal = torch.ones(n, n, dtype=torch.bool).tril()[None, None]
        ours, other = network(tokens, torch.arange(n)[None], causal), theirs(tokens).logits
        assert ours.shape == other.shape, (ours.shape, other.shape)
        assert torch.isfinite(ours).all() and torch.isfinite(other).all(), "logits are not finite"
        worst = max(worst, (ours - other).abs().max().item())
    return worst


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    args = parser.parse_args()
    network, tokenizer = load(args.model)
    theirs = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
    worlds = [make_world(random.Random(VALIDATION_SEEDS[n]), SHAPE) for n in range(N_WORLDS)]
    contexts = [encode_context(world, Vocabulary(tokenizer)).ids for world in worlds]
    text = "<s>Answer from the notes." + "".join("".join(chunk) for chunk in worlds[0].chunks)
    assert AutoTokenizer.from_pretrained(args.model)(text).input_ids == contexts[0], "tokenizers disagree"
    same = largest_difference(network, theirs, contexts)

    right_config = network.config
    wrong_config = dataclasses.replace(right_config, rope_theta=WRONG_THETA)
    _set_config(network, wrong_config)
    wrong_theta = largest_difference(network, theirs, contexts)
    _set_config(network, right_config)
    network.blocks[2].q.weight[0, 0] += WEIGHT_CHANGE
    wrong_weight = largest_difference(network, theirs, contexts)

    print(f"largest logit difference: same weights {same:.1e}, wrong theta {wrong_theta:.1e}, one weight changed {wrong_weight:.1e}")
    assert same < TOLERANCE < wrong_theta and same < wrong_weight / 10, "the export differs, or the check cannot tell"


def _set_config(network: DemoNetwork, config):
    network.config = config
    for block in network.blocks:
        block.config = config


if __name__ == "__main__":
    main()
