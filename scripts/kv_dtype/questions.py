"""Makes questions on real text to compare stored KV types with: JSON lines that `ragweave-eval quality` reads too.

    questions.py MUSIQUE.json --words 90 --answer-tokens 8 --out DIR    # musique-90-a.jsonl, -b.jsonl, .. of 12 questions each

The questions are those of MuSiQue whose answer stands in a passage. Each has four windows of its own passages, in random order,
one of them with the answer. Two windows of a question never share more than 5 % of their 8-word sequences: many passages of the
file are near copies of each other, and a copy in the prompt hides what plain reuse loses.
"""

import argparse
import json
import pathlib
import random
import string

PASSAGES, OVERLAP = 4, 0.05
PER_FILE = 12


def windows(text, length):
    words = text.split()
    starts = range(0, max(1, len(words) - length + 1), length // 3)
    return [" ".join(words[start : start + length]) for start in starts]


def sequences(text):
    words = text.split()
    return {tuple(words[at : at + 8]) for at in range(len(words) - 7)}


def is_copy(one, other):
    one, other = sequences(one), sequences(other)
    return len(one & other) > OVERLAP * max(1, min(len(one), len(other)))


def documents(record, length, random):
    """Four windows, one with an answer, from four passages; None if the passages are too much alike."""
    passages = [windows(passage["text"], length) for passage in record["ctxs"]]
    answers = [answer.lower() for answer in record["answers"]]
    holds = lambda window: any(answer in window.lower() for answer in answers)
    order = list(range(len(passages)))
    random.shuffle(order)
    first = next(((at, window) for at in order for window in passages[at] if holds(window)), None)
    if first is None:
        return None
    chosen, used = [first[1]], {first[0]}
    for at in order:
        if at in used or len(chosen) == PASSAGES:
            continue
        fresh = [window for window in passages[at] if not any(is_copy(window, one) for one in chosen)]
        if fresh:
            chosen.append(random.choice(fresh))
    random.shuffle(chosen)
    return chosen if len(chosen) == PASSAGES else None


def questions(args):
    records = json.loads(args.musique.read_text())
    made, seen = [], set()
    for number, record in enumerate(records):
        found = documents(record, args.words, random.Random(number))
        if found is None or record["question"] in seen:
            continue
        seen.add(record["question"])
        made.append(
            {
                "id": f"m{number}",
                "question": record["question"],
                "answers": record["answers"],
                "documents": found,
                "max_tokens": args.answer_tokens,
            }
        )
    args.out.mkdir(parents=True, exist_ok=True)
    for start in range(0, len(made), PER_FILE):
        name = f"musique-{args.words}-{string.ascii_lowercase[start // PER_FILE]}.jsonl"
        lines = (json.dumps(one) for one in made[start : start + PER_FILE])
        (args.out / name).write_text("".join(f"{line}\n" for line in lines))
    print(f"{len(made)} questions in {args.out}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("musique", type=pathlib.Path)
    parser.add_argument("--words", type=int, default=180, help="length of a window")
    parser.add_argument("--answer-tokens", type=int, default=24, help="longest answer")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    questions(parser.parse_args())


if __name__ == "__main__":
    main()
