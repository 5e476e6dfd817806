"""The demo tokenizer: byte-level BPE whose merges are trained on generated text until every unit is one token."""

import random

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from lexicon import PREFIX, name_pools
from world import TOKENIZER_SEEDS, World, WorldShape, make_world

PAD, BOS, EOS = 0, 1, 2
SPECIAL_TOKENS = ["<pad>", "<s>", "</s>"]
MAX_VOCABULARY = 2048  # more than there are merges to find; training stops when no pair is left
CORPUS_SHAPE = WorldShape(n_chunks=6, n_sentences=(4, 5), p_reference=0.6)


def train_tokenizer() -> Tokenizer:
    """Byte-level, so any text can be encoded; no blank is added in front, so a chunk and its wrapper are one string."""
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=MAX_VOCABULARY,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    return tokenizer


def _corpus():
    for seed in TOKENIZER_SEEDS:
        world = make_world(random.Random(seed), CORPUS_SHAPE)
        yield "".join(PREFIX) + "".join("".join(chunk) for chunk in world.chunks)
        for question in world.questions:
            yield "".join(world.question_units(question)) + " " + question.answer


class Vocabulary:
    """Maps units to their single token ids."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        self._ids: dict[str, int] = {}

    def __len__(self) -> int:
        return self.tokenizer.get_vocab_size()

    def id(self, unit: str) -> int:
        if unit not in self._ids:
            ids = self.tokenizer.encode(unit, add_special_tokens=False).ids
            assert len(ids) == 1, f"{unit!r} is {len(ids)} tokens, but every unit must be one"
            self._ids[unit] = ids[0]
        return self._ids[unit]

    def ids(self, units: list[str]) -> list[int]:
        return [self.id(unit) for unit in units]

    def name_classes(self) -> list[list[int]]:
        return [self.ids([" " + name for name in pool]) for pool in name_pools()]

    def check_strings(self, world: World):
        """Asserts that an engine which encodes whole strings, piece by piece, gets the ids used in training."""
        assert self._whole("<s>" + "".join(PREFIX)) == [BOS, *self.ids(PREFIX)]
        for n, units in enumerate(world.chunks):
            assert self._whole("\n- " + world.document(n)) == self.ids(units), world.document(n)
        for question in world.questions:
            text = natural(world.question_text(question))
            assert self._whole(f"\nQ: {text}\nA:") == self.ids(world.question_units(question)), text
            assert len(self._whole(" " + question.answer)) == 1, question.answer

    def _whole(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids


def natural(text: str) -> str:
    """'Where is the lamp ?' -> 'Where is the lamp?'"""
    for mark in ".,?:":
        text = text.replace(" " + mark, mark)
    return text
