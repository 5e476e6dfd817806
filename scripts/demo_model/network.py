"""A small Llama (RMSNorm, rotate-half RoPE, SwiGLU, tied embeddings) with the extra read-outs that training uses.

Only the plain Llama is exported. The read-outs (`referent`, `key_before`, `key_after`, attention scores of supervised heads) exist so
that the losses in `objective.py` can say where in the network a reference has to be resolved; see README.md.
"""

import math
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import nn

REFERENCE_LAYER = 1  # the mention looks up its definition here; the referent is in the KV from the next layer on
READ_LAYER = REFERENCE_LAYER + 1  # the question's last token looks up the value here
READ_HEAD = 0
EMBEDDING_SCALE = 0.2
CLASS_MIX = (0.8, 0.6)  # own component, component shared by a lexical class
OUTPUT_SCALE = 0.03
INIT_GAIN = 0.5
COPY_GAIN = 0.15  # W_o starts as this multiple of W_v transposed
MATCH_GAIN = 1.1  # W_q and W_k start with this shared component on the slow RoPE pairs
FIRST_SLOW_PAIR = 6  # RoPE pairs from here on hardly turn over a demo prompt, so they can match content
MASKED_SCORE = -1e9


@dataclass(frozen=True)
class NetworkConfig:
    vocab_size: int
    hidden_size: int = 128
    n_layers: int = 4
    n_heads: int = 4
    intermediate_size: int = 256
    rope_theta: float = 500_000.0
    rms_norm_eps: float = 1e-5
    max_position: int = 1024

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.n_heads

    def as_dict(self) -> dict:
        return asdict(self)


def rope_tables(positions: torch.Tensor, config: NetworkConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """cos and sin for the given positions, each [..., head_dim]."""
    pairs = torch.arange(0, config.head_dim, 2, dtype=torch.float32)
    angles = positions.float()[..., None] / config.rope_theta ** (pairs / config.head_dim)
    angles = torch.cat([angles, angles], -1)
    return angles.cos(), angles.sin()


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Applies RoPE to [batch, heads, seq, head_dim] with tables of [(batch,) seq, head_dim]."""
    half = x.shape[-1] // 2
    turned = torch.cat([-x[..., half:], x[..., :half]], -1)
    return x * cos.unsqueeze(-3) + turned * sin.unsqueeze(-3)


class Block(nn.Module):
    """One decoder layer. `project` and `finish` are apart so that the evaluation can put another cache between them."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.config = config
        d, ff = config.hidden_size, config.intermediate_size
        self.attention_norm = nn.Parameter(torch.ones(d))
        self.mlp_norm = nn.Parameter(torch.ones(d))
        self.q, self.k, self.v, self.o = (nn.Linear(d, d, bias=False) for _ in range(4))
        self.gate, self.up = nn.Linear(d, ff, bias=False), nn.Linear(d, ff, bias=False)
        self.down = nn.Linear(ff, d, bias=False)

    def normed(self, x: torch.Tensor) -> torch.Tensor:
        return rms_norm(x, self.attention_norm, self.config)

    def project(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Q, K and V before RoPE, each [batch, heads, seq, head_dim]."""
        y = self.normed(x)
        shape = (*x.shape[:2], self.config.n_heads, self.config.head_dim)
        return tuple(layer(y).view(shape).transpose(1, 2) for layer in (self.q, self.k, self.v))

    def finish(self, x: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        """Output projection and MLP, with their residuals; `attended` is [batch, heads, seq, head_dim]."""
        x = x + self.o(attended.transpose(1, 2).reshape(x.shape))
        y = rms_norm(x, self.mlp_norm, self.config)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))

    def forward(self, x, cos, sin, mask):
        q, k, v = self.project(x)
        q, k = rotate(q, cos, sin).to(v.dtype), rotate(k, cos, sin).to(v.dtype)
        return self.finish(x, F.scaled_dot_product_attention(q, k, v, attn_mask=mask))

    def scores(self, x, cos, sin, mask, rows, head: int) -> torch.Tensor:
        """Attention scores of one head for chosen rows: [batch, rows, seq], masked keys at a large negative value."""
        config, y = self.config, self.normed(x)
        part = slice(head * config.head_dim, (head + 1) * config.head_dim)
        hidden_at = rows[..., None].expand(-1, -1, config.hidden_size)
        table_at = rows[..., None].expand(-1, -1, config.head_dim)
        mask_at = rows[..., None].expand(-1, -1, mask.shape[-1])
        k = rotate((y @ self.k.weight[part].T)[:, None], cos, sin)[:, 0]
        q = (y.gather(1, hidden_at) @ self.q.weight[part].T)[:, None]
        q = rotate(q, cos.gather(1, table_at), sin.gather(1, table_at))[:, 0]
        scores = (q @ k.transpose(1, 2)).float() / math.sqrt(config.head_dim)
        return scores.masked_fill(~mask[:, 0].gather(1, mask_at), MASKED_SCORE)


def rms_norm(x: torch.Tensor, weight: torch.Tensor, config: NetworkConfig) -> torch.Tensor:
    return F.rms_norm(x, (x.shape[-1],), weight, config.rms_norm_eps)


@dataclass
class ReadOuts:
    """What training supervises besides the next token; see `objective.py`."""

    referent: torch.Tensor  # after the reference layer, at mentions: [mentions, vocab]
    key_before: torch.Tensor  # entering the reference layer, at values: [values, vocab]
    key_after: torch.Tensor  # leaving the reference layer, at values: [values, vocab]
    read_scores: torch.Tensor  # question's last token over the context: [batch, questions, seq]
    reference_scores: torch.Tensor  # mention over the context, per head: [batch, mentions, heads, seq]


class DemoNetwork(nn.Module):
    def __init__(self, config: NetworkConfig, name_classes: list[list[int]] = ()):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.final_norm = nn.Parameter(torch.ones(config.hidden_size))
        self.aux_referent, self.aux_key_before, self.aux_key_after = (
            nn.Linear(config.hidden_size, config.hidden_size, bias=False) for _ in range(3)
        )
        self._init_embedding(name_classes)
        for layer, block in enumerate(self.blocks):
            _init_block(block, layer)
        for head in (self.aux_referent, self.aux_key_before, self.aux_key_after):
            nn.init.eye_(head.weight)

    @torch.no_grad()
    def _init_embedding(self, name_classes):
        table = torch.randn(self.config.vocab_size, self.config.hidden_size)
        own, shared = CLASS_MIX
        for ids in name_classes:
            table[ids] = own * table[ids] + shared * torch.randn(self.config.hidden_size)
        self.embedding.weight.copy_(table * EMBEDDING_SCALE)
        self.final_norm.fill_(OUTPUT_SCALE / EMBEDDING_SCALE)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        return rms_norm(x, self.final_norm, self.config) @ self.embedding.weight.T

    def forward(self, ids: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Plain forward: logits of every position, [batch, seq, vocab]."""
        cos, sin = rope_tables(positions, self.config)
        x = self.embedding(ids)
        for block in self.blocks:
            x = block(x, cos, sin, mask)
        return self.logits(x)

    def train_forward(self, ids, positions, mask, logit_rows, mention_at, value_at, question_rows, mention_rows):
        """Logits at the flat rows `logit_rows`, and the read-outs. `*_at` are flat rows, `*_rows` are rows per example."""
        cos, sin = rope_tables(positions, self.config)
        x, width = self.embedding(ids), self.config.hidden_size
        for layer, block in enumerate(self.blocks):
            if layer == REFERENCE_LAYER:
                heads = range(self.config.n_heads)
                reference_scores = torch.stack([block.scores(x, cos, sin, mask, mention_rows, h) for h in heads], 2)
                key_before = self.logits(self.aux_key_before(x.reshape(-1, width)[value_at]))
            if layer == READ_LAYER:
                read_scores = block.scores(x, cos, sin, mask, question_rows, READ_HEAD)
                referent = self.logits(self.aux_referent(x.reshape(-1, width)[mention_at]))
                key_after = self.logits(self.aux_key_after(x.reshape(-1, width)[value_at]))
            x = block(x, cos, sin, mask)
        return self.logits(x.reshape(-1, width)[logit_rows]), ReadOuts(referent, key_before, key_after, read_scores, reference_scores)

    def exported_parameters(self) -> int:
        return sum(p.numel() for name, p in self.named_parameters() if not name.startswith("aux_"))


@torch.no_grad()
def _init_block(block: Block, layer: int):
    """Random init plus content matching: W_q ~ W_k on the slow RoPE pairs, W_o ~ W_v transposed ("attend to what is alike, copy it")."""
    config = block.config
    d, head_dim = config.hidden_size, config.head_dim
    for linear in (block.q, block.k, block.gate, block.up, block.down):
        nn.init.normal_(linear.weight, std=INIT_GAIN / math.sqrt(linear.weight.shape[1]))
    block.down.weight *= EMBEDDING_SCALE
    basis = torch.linalg.qr(torch.randn(d, d))[0]
    block.v.weight.copy_(basis)
    block.o.weight.copy_(basis.T * COPY_GAIN)
    slow = (torch.arange(head_dim) % (head_dim // 2) >= FIRST_SLOW_PAIR).float()[:, None] * MATCH_GAIN
    matching_heads = range(config.n_heads) if layer > 0 else range(1)
    for head in matching_heads:
        part = slice(head * head_dim, (head + 1) * head_dim)
        shared = torch.linalg.qr(torch.randn(d, head_dim))[0].T
        block.k.weight[part] += slow * shared
        block.q.weight[part] += slow * shared
