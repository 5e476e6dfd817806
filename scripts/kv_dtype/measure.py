"""Measures what each stored KV type loses, on one prompt at a time with all types side by side.

    measure.py MODEL QUESTIONS.jsonl --out RESULTS.jsonl     # can be interrupted and continued

`ragweave-eval quality` measures one type per run, and most of a run is full prefill, which does not depend on the type. This
computes full prefill and the KV of each chunk once and then rounds that KV as each type stores it. It is a plain PyTorch model of the
Llama family in f32; `pairs.py --check` compares its results with those of `ragweave-eval quality` on the same questions.

KV is kept before RoPE. f32 keeps the first chunk exact, and no policy selects from it; in any other type it is a candidate too.
"""

import argparse
import json
import math
import pathlib

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tokenizers import Tokenizer

RATIO = 0.15
SYSTEM = "Answer the question from the passages. If they do not hold the answer, say so."
PREFIX = ["<|im_start|>system\n", SYSTEM, "<|im_end|>\n<|im_start|>user\nUse the passages to answer.\n\n"]
ASK = "<|im_end|>\n<|im_start|>assistant\n"


class Model:
    """Weights of a Llama model, and what its layers compute."""

    def __init__(self, directory):
        directory = pathlib.Path(directory)
        config = json.loads((directory / "config.json").read_text())
        weights = {name: value.float() for name, value in load_file(directory / "model.safetensors").items()}
        self.n_layers, self.heads = config["num_hidden_layers"], config["num_attention_heads"]
        self.kv_heads, self.head_dim = config["num_key_value_heads"], config["head_dim"]
        self.eps, self.eos = config["rms_norm_eps"], config["eos_token_id"]
        steps = torch.arange(0, self.head_dim, 2).double() / self.head_dim
        angles = torch.arange(config["max_position_embeddings"])[:, None] * config["rope_theta"] ** -steps
        angles = torch.cat([angles, angles], -1)
        self.cos, self.sin = angles.cos().float(), angles.sin().float()
        self.embedding, self.final_norm = weights["model.embed_tokens.weight"], weights["model.norm.weight"]
        self.head = weights.get("lm_head.weight", self.embedding)
        self.layers = [
            {name.split(f"layers.{layer}.")[1]: value for name, value in weights.items() if f"layers.{layer}." in name}
            for layer in range(self.n_layers)
        ]
        self.tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))

    def encode(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def norm(self, x, weight):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * weight

    def rotate(self, x, positions):
        half = self.head_dim // 2
        turned = torch.cat([-x[..., half:], x[..., :half]], -1)
        return x * self.cos[positions] + turned * self.sin[positions]

    def qkv(self, layer, x):
        """Q, K and V before RoPE, each [heads, rows, head_dim]."""
        weights = self.layers[layer]
        x = self.norm(x, weights["input_layernorm.weight"])
        project = lambda name: F.linear(x, weights[f"self_attn.{name}_proj.weight"])
        return [project(name).view(len(x), -1, self.head_dim).transpose(0, 1) for name in "qkv"]

    def finish(self, layer, x, attended):
        weights = self.layers[layer]
        x = x + F.linear(attended, weights["self_attn.o_proj.weight"])
        y = self.norm(x, weights["post_attention_layernorm.weight"])
        gate, up = (F.linear(y, weights[f"mlp.{name}_proj.weight"]) for name in ("gate", "up"))
        return x + F.linear(F.silu(gate) * up, weights["mlp.down_proj.weight"])

    def run(self, ids, rows, cached=None, look=None):
        """Runs `rows` of `ids` over cached KV, a (K, V) per layer of [heads, positions, head_dim] before RoPE, whose
        rows they overwrite. Returns the hidden rows and, per layer, K and V of all positions before RoPE."""
        x, everything, kv = self.embedding[ids[rows]], torch.arange(len(ids)), []
        mask = torch.where(everything <= rows[:, None], 0.0, -math.inf)
        for layer in range(self.n_layers):
            q, k, v = self.qkv(layer, x)
            shape = (self.kv_heads, len(ids), self.head_dim)
            keys, values = torch.zeros(shape), torch.zeros(shape)
            for full, new, old in ((keys, k, 0), (values, v, 1)):
                if cached is not None:
                    full[:, : cached[layer][old].shape[1]] = cached[layer][old]
                full[:, rows] = new
            kv.append((keys, values))
            attended = self.attend(q, self.rotate(keys, everything), values, rows, mask, layer, look)
            x = self.finish(layer, x, attended)
        return x, kv

    def attend(self, q, keys, values, rows, mask, layer, look):
        q = self.rotate(q, rows).reshape(self.kv_heads, -1, self.head_dim)
        scores = (q @ keys.transpose(1, 2) / math.sqrt(self.head_dim)).view(self.heads, len(rows), -1)
        weights = (scores + mask).softmax(-1)
        if look is not None:
            look(layer, weights)
        attended = weights.view(self.kv_heads, -1, keys.shape[1]) @ values
        return attended.view(self.heads, len(rows), self.head_dim).transpose(0, 1).reshape(len(rows), -1)

    def logits(self, x):
        return F.linear(self.norm(x, self.final_norm), self.head)


def rounded(kv, dtype):
    """K and V of a chunk as they are read back from a store."""
    if dtype == "f32":
        return kv
    if dtype == "f16":
        return tuple(x.half().float() for x in kv)
    # K by channel of the chunk, V by token and head, as `engine/src/kv/int8.rs`.
    scales = [x.abs().amax(dim=dim, keepdim=True) / 127 for x, dim in zip(kv, (1, 2))]
    return tuple((x / scale.clamp(min=1e-30)).round() * scale for x, scale in zip(kv, scales))


class Prompt:
    """One question: full prefill, its answer, and the KV of each chunk computed alone after the prefix."""

    def __init__(self, model, record):
        self.model = model
        prefix = [token for text in PREFIX for token in model.encode(text)]
        chunks = [model.encode(f"[passage]\n{text}\n\n") for text in record["documents"]]
        question = model.encode("Question: " + record["question"]) + model.encode(ASK)
        starts = [len(prefix)]
        for chunk in chunks:
            starts.append(starts[-1] + len(chunk))
        self.spans = list(zip(starts, starts[1:]))
        self.context, self.n_question = starts[-1], len(question)
        ids = torch.tensor(prefix + sum(chunks, []) + question)
        x, self.full = model.run(ids, torch.arange(len(ids)))
        self.ids = self.answer(ids, x[-1], record["max_tokens"])
        self.tail = torch.arange(self.context, len(self.ids))
        self.reference = self.scored(self.full)[0]
        before = [(k[:, : len(prefix)], v[:, : len(prefix)]) for k, v in self.full]
        self.alone = [self.chunk_kv(prefix, chunk, before) for chunk in chunks]
        self.prefix_kv = before

    def answer(self, ids, x, limit):
        """`ids` with full prefill's own answer."""
        cached = self.full
        for _ in range(limit):
            token = self.model.logits(x).argmax()
            if int(token) == self.model.eos:
                break
            ids = torch.cat([ids, token[None]])
            x, cached = self.model.run(ids, torch.tensor([len(ids) - 1]), cached)
            x = x[-1]
        return ids

    def chunk_kv(self, prefix, chunk, before):
        ids = torch.tensor(prefix + chunk)
        _, kv = self.model.run(ids, torch.arange(len(prefix), len(ids)), before)
        return [(k[:, len(prefix) :], v[:, len(prefix) :]) for k, v in kv]

    def scored(self, cached, selected=None, look=None):
        """Logits along the answer when `selected` rows and the question run over cached KV of the context."""
        cached = [(k[:, : self.context], v[:, : self.context]) for k, v in cached]
        rows = self.tail if selected is None else torch.cat([selected, self.tail])
        x, kv = self.model.run(self.ids, rows, cached, look)
        return self.model.logits(x[-len(self.tail) :][self.n_question - 1 :]), kv

    def stored(self, dtype):
        """KV of the context as placed from a store of this type."""
        layers = []
        for layer, before in enumerate(self.prefix_kv):
            parts = [before] + [rounded(chunk[layer], dtype) for chunk in self.alone]
            layers.append(tuple(torch.cat([part[side] for part in parts], 1) for side in (0, 1)))
        return layers

    def modes(self, dtype):
        """`(mode, logits)` of each mode in this type."""
        stored = self.stored(dtype)
        first = self.spans[1][0] if dtype == "f32" else self.spans[0][0]
        attention = torch.zeros(self.context)

        def look(_layer, weights):
            attention.add_(weights[:, : self.n_question, : self.context].mean(1).sum(0))

        yield "reuse", self.scored(stored, look=look)[0]
        yield f"query/all:{RATIO}", self.scored(stored, top(attention, first))[0]
        if first < self.spans[1][0]:
            # As if rounding alone did not make the first chunk a candidate: fewer rows are computed.
            yield f"query/all:{RATIO}, first chunk kept", self.scored(stored, top(attention, self.spans[1][0]))[0]
        deviation = sum(
            (fresh[:, : self.context] - kept).pow(2).sum((0, 2)) for fresh, kept in zip(self.full[1], stored[1])
        )
        # Up to the check layer all candidates are computed, and these rows equal full prefill's.
        checked = [tuple(x[:, : self.context] for x in self.full[layer]) for layer in (0, 1)]
        yield f"hkvd@1:{RATIO}", self.scored(checked + stored[2:], top(deviation, first))[0]


def top(scores, first):
    """The highest of the rows from `first` on, in order."""
    k = math.ceil(RATIO * (len(scores) - first))
    return (scores[first:].topk(k).indices + first).sort().values


def compare(logits, reference):
    p, q = reference.log_softmax(-1), logits.log_softmax(-1)
    kl = (p.exp() * (p - q)).sum(-1).mean()
    return float(kl), float((logits.argmax(-1) == reference.argmax(-1)).float().mean())


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("questions", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--dtypes", default="f32,f16,int8")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.touch()
    done = {json.loads(line)["id"] for line in args.out.read_text().splitlines()}
    model = Model(args.model)
    for record in map(json.loads, args.questions.read_text().splitlines()):
        if record["id"] in done:
            continue
        prompt, lines = Prompt(model, record), []
        for dtype in args.dtypes.split(","):
            for spec, logits in prompt.modes(dtype):
                kl, top1 = compare(logits, prompt.reference)
                item = {"id": record["id"], "kv_dtype": dtype, "spec": spec, "kl": kl, "top1_agreement": top1}
                lines.append(json.dumps(item) + "\n")
        with args.out.open("a") as out:
            out.write("".join(lines))


if __name__ == "__main__":
    main()
