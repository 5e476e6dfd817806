"""Compares stored KV types question by question, from the results of measure.py or of `ragweave-eval quality`.

    pairs.py RESULTS.jsonl..                             # against f32, in a table
    pairs.py RESULTS.jsonl.. --check TYPE=RUN/run.jsonl  # largest difference from ragweave-eval, which measured TYPE
"""

import argparse
import json
import pathlib
import random

REFERENCE = "f32"
RESAMPLES = 10_000


def read(paths):
    """`(question, mode) -> item` by stored type."""
    items = {}
    for path in paths:
        for item in map(json.loads, path.read_text().splitlines()):
            items.setdefault(item["kv_dtype"], {})[item["id"], item["spec"]] = item
    return items


def interval(values):
    """The mean of per-question values and its 95 % bootstrap interval."""
    generator = random.Random(1)
    means = sorted(sum(generator.choices(values, k=len(values))) / len(values) for _ in range(RESAMPLES))
    return sum(values) / len(values), means[int(0.025 * RESAMPLES)], means[int(0.975 * RESAMPLES) - 1]


def table(items):
    reference = items[REFERENCE]
    print("| mode | KV | n | KL | KL minus f32 | top-1 | top-1 minus f32 |")
    print("|---|---|---:|---:|---|---:|---|")
    for mode in dict.fromkeys(spec for _, spec in reference):
        shared = [key for key in reference if key[1] == mode and all(key in of_type for of_type in items.values())]
        for dtype, of_type in items.items():
            cells = [f"`{mode}`", dtype, str(len(shared))]
            for metric, digits in (("kl", 5), ("top1_agreement", 4)):
                mean = sum(of_type[key][metric] for key in shared) / len(shared)
                differences = [of_type[key][metric] - reference[key][metric] for key in shared]
                middle, low, high = (f"{value:+.{digits}f}" for value in interval(differences))
                cells += [f"{mean:.{digits}f}", "" if dtype == REFERENCE else f"{middle} [{low}, {high}]"]
            print("| " + " | ".join(cells) + " |")


def variants(items):
    """Modes with an addition after a comma, such as `first chunk kept`: against the same type's mode without it, and
    against f32's, in which no row of the first chunk is computed either."""
    for dtype, of_type in items.items():
        for mode in dict.fromkeys(spec for _, spec in of_type if "," in spec):
            plain = mode.partition(",")[0]
            shared = [key for key in of_type if key[1] == mode]
            for name, others in ((dtype, of_type), (REFERENCE, items[REFERENCE])):
                differences = [of_type[key]["kl"] - others[key[0], plain]["kl"] for key in shared]
                middle, low, high = (f"{value:+.5f}" for value in interval(differences))
                print(f"{dtype}, {mode}: n {len(shared)}, KL minus that of `{plain}` in {name} {middle} [{low}, {high}]")


def check(items, dtype, run):
    found = {}
    for line in map(json.loads, run.read_text().splitlines()):
        if "spec" in line and line["spec"] != "full":
            found[line["id"], line["spec"]] = line["kl"]
    shared = [key for key in items[dtype] if key in found]
    off = max(abs(items[dtype][key]["kl"] - found[key]) for key in shared)
    print(f"{dtype}: {len(shared)} results, KL differs by at most {off:.1e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=pathlib.Path)
    parser.add_argument("--check", action="append", default=[], metavar="TYPE=RUN")
    args = parser.parse_args()
    items = read(args.results)
    for dtype, _, run in (one.partition("=") for one in args.check):
        check(items, dtype, pathlib.Path(run))
    if not args.check:
        table(items)
        variants(items)


if __name__ == "__main__":
    main()
