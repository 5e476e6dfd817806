"""Writes the demo corpus and its questions: worlds that training never drew.

    python scripts/demo_model/build_corpus.py --model demo/model --out demo
"""

import argparse
import json
import random
from collections import Counter
from pathlib import Path

from tokenizers import Tokenizer

from lexicon import WORLD_NAMES
from vocabulary import Vocabulary, natural
from world import DEMO_SEEDS, TOKENIZER_SEEDS, TRAINING_SEEDS, VALIDATION_SEEDS, Question, World, WorldShape, make_world

N_WORLDS = 30
N_CHUNKS = (7, 8)
N_SENTENCES = (4, 5)
P_REFERENCE = 0.6
CONTEXT_CHUNKS = 6  # the largest context of training
QUESTIONS_PER_KIND = {"local": 6, "x_alias": 4, "x_place": 3, "x_firm": 3, "x_same": 3}  # at most, per world


def demo_worlds() -> list[World]:
    """Worlds with distinct names, from seeds that nothing else uses."""
    names = random.Random("demo/names").sample(WORLD_NAMES, N_WORLDS)
    worlds, seeds = [], iter(DEMO_SEEDS)
    while len(worlds) < N_WORLDS:
        rng = random.Random(next(seeds))
        shape = WorldShape(rng.randint(*N_CHUNKS), N_SENTENCES, P_REFERENCE)
        world = make_world(rng, shape, names[len(worlds)])
        if _is_unambiguous(world):
            worlds.append(world)
    return worlds


def _is_unambiguous(world: World) -> bool:
    """No (key, relation) pair is stated twice; a very full world may run out of new people."""
    stated = Counter((question.key, question.relation) for question in world.questions)
    return max(stated.values()) == 1


def pick_questions(world: World, rng: random.Random) -> list[Question]:
    picked = []
    for kind, most in QUESTIONS_PER_KIND.items():
        of_kind = [question for question in world.questions if question.kind == kind]
        picked += rng.sample(of_kind, min(most, len(of_kind)))
    return sorted(picked, key=lambda question: question.value_at)


def gold_chunks(world: World, question: Question) -> list[int]:
    """The chunk that states the value, and those that define what it refers to, through every step of the chain."""
    references = {mention.at: mention.definition for mention in world.mentions if mention.definition}
    at, chunks = question.value_at, {question.chunk}
    while at in references:
        at = references[at].at
        chunks.add(at[0])
    return sorted(chunks)


def context_chunks(world: World, gold: list[int], rng: random.Random) -> list[int]:
    """Gold chunks and distractors in reading order, so that a definition comes before its uses."""
    others = [n for n in range(len(world.chunks)) if n not in gold]
    return sorted(gold + rng.sample(others, CONTEXT_CHUNKS - len(gold)))


def document_id(world: World, chunk: int) -> str:
    return f"{world.name.lower()}/{chunk + 1:02}.txt"


def question_rows(world: World, rng: random.Random):
    """One JSON row per question. Each document is a single chunk, number 0."""
    def ids(chunks):
        return [document_id(world, chunk) + "#0" for chunk in chunks]

    for n, question in enumerate(pick_questions(world, rng)):
        gold = gold_chunks(world, question)
        yield {
            "id": f"{world.name.lower()}-{n + 1:02}",
            "world": world.name,
            "question": natural(world.question_text(question)),
            "answers": [question.answer],
            "type": question.kind,
            "gold_chunks": ids(gold),
            "context_chunks": ids(context_chunks(world, gold, rng)),
        }


def check_seeds():
    ranges = [TRAINING_SEEDS, TOKENIZER_SEEDS, VALIDATION_SEEDS, DEMO_SEEDS]
    for before, after in zip(ranges, ranges[1:]):
        assert before.stop <= after.start, "seed ranges overlap"


def write_corpus(worlds: list[World], folder: Path) -> int:
    """Files end without a line feed: the text of a file is exactly the text of its chunk."""
    n_documents = 0
    for world in worlds:
        for chunk in range(len(world.chunks)):
            path = folder / document_id(world, chunk)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(world.document(chunk))
            n_documents += 1
    return n_documents


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="model directory, for its tokenizer")
    parser.add_argument("--out", type=Path, required=True, help="receives corpus/ and questions.jsonl")
    args = parser.parse_args()
    check_seeds()
    vocabulary = Vocabulary(Tokenizer.from_file(str(args.model / "tokenizer.json")))
    worlds = demo_worlds()
    for world in worlds:
        vocabulary.check_strings(world)
    rng = random.Random("demo/questions")
    rows = [row for world in worlds for row in question_rows(world, rng)]
    n_documents = write_corpus(worlds, args.out / "corpus")
    (args.out / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    print(f"{len(worlds)} worlds, {n_documents} documents, {len(rows)} questions: {dict(Counter(row['type'] for row in rows))}")


if __name__ == "__main__":
    main()
