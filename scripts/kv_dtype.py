"""Compares stored KV types on real text: makes the questions, and pairs the results of runs by question.

    kv_dtype.py questions MUSIQUE.json --words 90 --out DIR  # musique-90-a.jsonl, -b.jsonl, ... of 12 questions each
    kv_dtype.py pairs f32=RUN[,RUN..] int8=RUN[,RUN..] # the first type is the reference

The questions are those of MuSiQue whose answer stands in a passage. Each has four windows of its own passages, in random order, one of them with the answer. Two windows of a question never share more than 5 % of their 8-word sequences: many
passages of the file are near copies of each other, and a copy in the prompt hides what plain reuse loses.
"""

import argparse
import json
import pathlib
import random
import string

PASSAGES, OVERLAP = 4, 0.05
PER_FILE = 12
RESAMPLES = 10_000


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


def read_runs(paths):
    """`(question, mode) -> item` of runs of one type."""
    items = {}
    for path in paths:
        for line in (pathlib.Path(path) / "run.jsonl").read_text().splitlines():
            item = json.loads(line)
            if "kl" in item:
                items[item["dataset"], item["id"], item["spec"]] = item
    return items


def interval(values):
    """The mean of per-question values and its 95 % bootstrap interval."""
    generator = random.Random(1)
    means = sorted(sum(generator.choices(values, k=len(values))) / len(values) for _ in range(RESAMPLES))
    return sum(values) / len(values), means[int(0.025 * RESAMPLES)], means[int(0.975 * RESAMPLES) - 1]


def pairs(args):
    runs = [(name, read_runs(paths.split(","))) for name, _, paths in (run.partition("=") for run in args.runs)]
    reference = runs[0][1]
    modes = list(dict.fromkeys(spec for *_, spec in reference))
    print("| mode | type | n | KL | KL minus reference | top-1 | top-1 minus reference |")
    print("|---|---|---|---|---|---|---|")
    for mode in modes:
        shared = [key for key in reference if key[2] == mode and all(key in items for _, items in runs)]
        for name, items in runs:
            row = [mode, name, str(len(shared))]
            for metric, digits in (("kl", 5), ("top1_agreement", 4)):
                values = [items[key][metric] for key in shared]
                row.append(f"{sum(values) / len(values):.{digits}f}")
                difference = interval([items[key][metric] - reference[key][metric] for key in shared])
                mean, low, high = (f"{value:+.{digits}f}" for value in difference)
                row.append("" if items is reference else f"{mean} [{low}, {high}]")
            print("| " + " | ".join(row) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    make = commands.add_parser("questions", help="make the questions")
    make.add_argument("musique", type=pathlib.Path)
    make.add_argument("--words", type=int, default=180, help="length of a window")
    make.add_argument("--answer-tokens", type=int, default=24, help="longest answer")
    make.add_argument("--out", type=pathlib.Path, required=True)
    make.set_defaults(run=questions)
    pair = commands.add_parser("pairs", help="compare runs by question")
    pair.add_argument("runs", nargs="+", metavar="TYPE=RUN[,RUN..]")
    pair.set_defaults(run=pairs)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
