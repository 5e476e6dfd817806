"""The training loss: next token, plus the read-outs that say where in the network a reference is resolved."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from batches import Batch
from network import ReadOuts

LM_WEIGHT = 0.1
REFERENT_WEIGHT = 0.5
KEY_WEIGHT = 0.3


@dataclass
class StepResult:
    loss: torch.Tensor
    figures: dict[str, float]
    correct: torch.Tensor  # per logit row


def objective(logits: torch.Tensor, outs: ReadOuts, batch: Batch, attention_weight: float) -> StepResult:
    token_loss = F.cross_entropy(logits.float(), batch.logit_targets, reduction="none")
    answer_weight, is_context = batch.logit_weights.clamp(min=0), batch.logit_weights < 0
    answer = (token_loss * answer_weight).sum() / answer_weight.sum()
    context = (token_loss * is_context).sum() / is_context.sum()
    referent = F.cross_entropy(outs.referent.float(), batch.mention_targets)
    key = sum(F.cross_entropy(k.float(), batch.value_targets) for k in (outs.key_before, outs.key_after))
    reference_scores = _scores_of_kind(outs.reference_scores, batch.mention_heads)
    attention = _attention_loss(outs.read_scores, batch.question_values)
    attention = attention + _attention_loss(reference_scores, batch.definition_rows)
    loss = answer + LM_WEIGHT * context + REFERENT_WEIGHT * referent + KEY_WEIGHT * key + attention_weight * attention
    figures = {
        "answer": answer.item(),
        "context": context.item(),
        "referent": _accuracy(outs.referent, batch.mention_targets),
        "key": _accuracy(outs.key_before, batch.value_targets),
        "read": _accuracy(outs.read_scores, batch.question_values),
        "reference": _accuracy(reference_scores, batch.definition_rows),
    }
    return StepResult(loss, figures, logits.argmax(-1) == batch.logit_targets)


def _scores_of_kind(scores: torch.Tensor, heads: torch.Tensor) -> torch.Tensor:
    """[batch, mentions, heads, seq] -> [batch, mentions, seq], each mention's own head."""
    return scores.gather(2, heads[:, :, None, None].expand(-1, -1, 1, scores.shape[-1]))[:, :, 0]


def _attention_loss(scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(scores.flatten(0, 1), targets.flatten())


def _accuracy(scores: torch.Tensor, targets: torch.Tensor) -> float:
    n = (targets >= 0).sum().clamp(min=1)
    return ((scores.argmax(-1) == targets).sum() / n).item()
