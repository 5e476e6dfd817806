"""Training batches: one world per row, its context once, followed by many questions packed in parallel.

Every question sees the context and itself, never another question, and all start at the same position. A question whose answer was
defined in an earlier chunk may, most of the time, not attend to that chunk (blinding): the reference then has to be resolved in the KV
of the chunk that makes it, which is what full reuse loses and fusion recovers.
"""

import random
from dataclasses import dataclass

import numpy as np
import torch

from lexicon import PREFIX
from vocabulary import BOS, EOS, Vocabulary
from world import TRAINING_SEEDS, Position, World, WorldShape, make_world

P_BLIND = 0.8
CROSS_SHARE = 0.6  # of the questions asked, those that need a reference resolved
N_LM_ROWS = 16  # context positions per row with a next-token loss
MAX_MENTIONS = 12
EXTRA_VALUES = 26
ROOM_FOR_QUESTIONS = 30
SECOND_TOKEN_WEIGHT = 0.1  # of </s> against the answer's token
WORLDS_PER_RUN = 10**6
IGNORE = -100
REFERENCE_HEAD = {"same": 0, "alias": 2, "place": 3, "firm": 3}  # one supervised head per kind of reference


@dataclass(frozen=True)
class Stage:
    """One step of the curriculum: how large the worlds are and how they are batched."""

    steps: int
    batch_size: int
    n_positions: int
    n_questions: int
    n_chunks: tuple[int, int]
    n_sentences: tuple[int, int]
    p_reference: float


@dataclass
class Batch:
    """Tensors of one step; `*_at` index the flattened [batch * positions], `*_rows` index positions within a row."""

    ids: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor  # [batch, 1, positions, positions], True = may attend
    logit_rows: torch.Tensor
    logit_targets: torch.Tensor
    logit_weights: torch.Tensor  # > 0 answers, < 0 context rows, 0 filling
    mention_at: torch.Tensor
    mention_targets: torch.Tensor
    value_at: torch.Tensor
    value_targets: torch.Tensor
    mention_rows: torch.Tensor
    mention_heads: torch.Tensor
    definition_rows: torch.Tensor
    question_rows: torch.Tensor
    question_values: torch.Tensor
    answers: list[tuple[int, str]]  # (index into logit_rows, question kind)


@dataclass
class Context:
    """A world's context in token ids."""

    world: World
    ids: list[int]
    chunk_of: np.ndarray  # chunk number per position, -1 in the prefix
    starts: list[int]

    def position(self, at: Position) -> int:
        return self.starts[at[0]] + at[1]


def encode_context(world: World, vocabulary: Vocabulary) -> Context:
    ids = [BOS, *vocabulary.ids(PREFIX)]
    chunk_of, starts = [-1] * len(ids), []
    for n, units in enumerate(world.chunks):
        starts.append(len(ids))
        ids += vocabulary.ids(units)
        chunk_of += [n] * len(units)
    return Context(world, ids, np.array(chunk_of), starts)


class BatchStream:
    """All batches of a run, a pure function of the run's seed."""

    def __init__(self, vocabulary: Vocabulary, seed: int):
        self.vocabulary = vocabulary
        self.rng = random.Random(f"batches/{seed}")
        self.next_seed = TRAINING_SEEDS.start + seed * WORLDS_PER_RUN
        assert self.next_seed + WORLDS_PER_RUN <= TRAINING_SEEDS.stop, f"seed {seed} is too large"

    def batches(self, stage: Stage):
        for _ in range(stage.steps):
            filler = _Filler(stage, self.vocabulary, self.rng)
            for row in range(stage.batch_size):
                filler.add_row(row, self._context(stage))
            yield filler.batch()

    def _context(self, stage: Stage) -> Context:
        """The next world that leaves room for questions."""
        while True:
            rng = random.Random(self.next_seed)
            self.next_seed += 1
            shape = WorldShape(rng.randint(*stage.n_chunks), stage.n_sentences, stage.p_reference)
            context = encode_context(make_world(rng, shape), self.vocabulary)
            if len(context.ids) + ROOM_FOR_QUESTIONS < stage.n_positions:
                return context


class _Filler:
    """Arrays of one batch while its rows are written."""

    def __init__(self, stage: Stage, vocabulary: Vocabulary, rng: random.Random):
        self.stage, self.vocabulary, self.rng = stage, vocabulary, rng
        b, t, nq = stage.batch_size, stage.n_positions, stage.n_questions
        self.ids, self.positions = np.zeros((b, t), np.int64), np.zeros((b, t), np.int64)
        self.mask = np.zeros((b, t, t), bool)
        self.causal = np.tril(np.ones((t, t), bool))
        self.logits: list[tuple[int, int, float]] = []
        self.mentions: list[tuple[int, int]] = []
        self.values: list[tuple[int, int]] = []
        self.mention_rows, self.mention_heads = np.zeros((b, MAX_MENTIONS), np.int64), np.zeros((b, MAX_MENTIONS), np.int64)
        self.definition_rows = np.full((b, MAX_MENTIONS), IGNORE, np.int64)
        self.question_rows, self.question_values = np.zeros((b, nq), np.int64), np.full((b, nq), IGNORE, np.int64)
        self.answers: list[tuple[int, str]] = []

    def add_row(self, row: int, context: Context):
        n = len(context.ids)
        self.ids[row, :n], self.positions[row, :n] = context.ids, range(n)
        self.mask[row, :n, :n] = self.causal[:n, :n]
        self._add_context_targets(row, context)
        end = n
        for slot, question in enumerate(self._pick_questions(context.world)):
            tokens = self.vocabulary.ids(context.world.question_units(question))
            tokens += [self.vocabulary.id(" " + question.answer), EOS]
            if end + len(tokens) > self.stage.n_positions:
                break
            self._add_question(row, slot, context, question, tokens, end)
            end += len(tokens)
        filling = np.arange(end, self.stage.n_positions)
        self.mask[row, filling, filling] = True

    def _add_context_targets(self, row: int, context: Context):
        base, ids = row * self.stage.n_positions, context.ids
        for p in self.rng.sample(range(len(ids) - 1), min(N_LM_ROWS, len(ids) - 1)):
            self.logits.append((base + p, ids[p + 1], -1.0))
        mentions = sorted(context.world.mentions, key=lambda mention: mention.at)
        for slot, mention in enumerate(mentions):
            p, referent = context.position(mention.at), self.vocabulary.id(" " + mention.referent)
            self.mentions.append((base + p, referent))
            if mention.definition is None:
                self.values.append((base + p, referent))
            elif slot < MAX_MENTIONS:
                self.mention_rows[row, slot] = p
                self.mention_heads[row, slot] = REFERENCE_HEAD[mention.definition.kind]
                self.definition_rows[row, slot] = context.position(mention.definition.at)
        for binding in context.world.bindings:
            self.values.append((base + context.position(binding.at), self.vocabulary.id(" " + binding.key)))

    def _pick_questions(self, world: World):
        cross = [q for q in world.questions if q.kind != "local"]
        local = [q for q in world.questions if q.kind == "local"]
        self.rng.shuffle(cross)
        self.rng.shuffle(local)
        n = self.stage.n_questions
        n_cross = round(n * CROSS_SHARE)
        picked = cross[:n_cross]
        picked += local[: n - len(picked)]
        return picked + cross[n_cross : n_cross + n - len(picked)]

    def _add_question(self, row, slot, context: Context, question, tokens: list[int], start: int):
        n, length = len(context.ids), len(tokens)
        end, base = start + length, row * self.stage.n_positions
        self.ids[row, start:end], self.positions[row, start:end] = tokens, range(n, n + length)
        visible = np.ones(n, bool)
        if question.kind.startswith("x_") and self.rng.random() < P_BLIND:
            visible = context.chunk_of != question.definition_chunk
        self.mask[row, start:end, :n] = visible
        self.mask[row, start:end, start:end] = self.causal[:length, :length]
        last = end - 3  # the question's last token; the answer and </s> follow it
        self.answers.append((len(self.logits), question.kind))
        self.logits.append((base + last, tokens[-2], 1.0))
        self.logits.append((base + last + 1, tokens[-1], SECOND_TOKEN_WEIGHT))
        if question.relation != "alias":
            self.values.append((base + last, self.vocabulary.id(" " + question.key)))
        self.question_rows[row, slot] = last
        self.question_values[row, slot] = context.position(question.value_at)

    def batch(self) -> Batch:
        """Fixed sizes per stage, so that the compiled step is compiled once."""
        b, nq = self.stage.batch_size, self.stage.n_questions
        logits = _padded(self.logits, b * (N_LM_ROWS + 2 * nq), (0, 0, 0.0))
        mentions = _padded(self.mentions, b * MAX_MENTIONS, (0, IGNORE))
        values = _padded(self.values, b * (nq + EXTRA_VALUES), (0, IGNORE))
        as_tensor = torch.from_numpy
        return Batch(
            as_tensor(self.ids), as_tensor(self.positions), as_tensor(self.mask)[:, None],
            *_columns(logits, torch.int64, torch.int64, torch.float32),
            *_columns(mentions, torch.int64, torch.int64),
            *_columns(values, torch.int64, torch.int64),
            as_tensor(self.mention_rows), as_tensor(self.mention_heads), as_tensor(self.definition_rows),
            as_tensor(self.question_rows), as_tensor(self.question_values), self.answers,
        )


def _padded(rows: list, size: int, filling) -> list:
    return rows[:size] + [filling] * (size - len(rows))


def _columns(rows: list, *dtypes) -> list[torch.Tensor]:
    return [torch.tensor(column, dtype=dtype) for column, dtype in zip(zip(*rows), dtypes)]
