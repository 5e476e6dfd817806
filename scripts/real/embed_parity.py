"""Compares `ragweave-eval embed` with sentence-transformers on one directory: cosines and speed, in one run.

    python scripts/real/embed_parity.py --dir DIR --texts FILE --ragweave target/release/ragweave-eval

FILE has one text per line; without it, the README and the docs of this repository are cut into passages. Needs
sentence-transformers. Exits with 1 if a cosine is below 0.9999. Passages beyond the maximum length are compared for speed
only: sentence-transformers drops their end, ragweave embeds all of it.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
MIN_COSINE = 0.9999
PASSAGE_WORDS = 120
QUERIES = 50


def passages():
    """Passages of about 120 words of this repository's documents, one per line."""
    files = [REPOSITORY / "README.md", *sorted(REPOSITORY.glob("docs/*.md")), *sorted(REPOSITORY.glob("*/README.md"))]
    words = " ".join(file.read_text() for file in files).split()
    return [" ".join(words[at : at + PASSAGE_WORDS]) for at in range(0, len(words), PASSAGE_WORDS)]


def ragweave(arguments, texts, is_query):
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(texts) + "\n")
        file.flush()
        command = [arguments.ragweave, "embed", "--embedder", arguments.dir, "--lines", file.name, "--json", "--times"]
        command += ["--query"] if is_query else []
        environment = {**os.environ, "RAYON_NUM_THREADS": str(arguments.threads)}
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment).stdout
    answer = json.loads(printed)
    vectors = answer["embeddings"] if "embeddings" in answer else [answer["embedding"]]
    return vectors, answer["times"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dir", required=True)
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--ragweave", default=str(REPOSITORY / "target/release/ragweave-eval"))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()

    import numpy
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(arguments.threads)
    texts = arguments.texts.read_text().splitlines() if arguments.texts else passages()
    model = SentenceTransformer(arguments.dir, device="cpu")
    lengths = [len(ids) for ids in model.tokenizer(texts, truncation=False)["input_ids"]]
    queries = [" ".join(text.split()[:14]) for text in texts[:QUERIES]]
    query_tokens = [len(ids) for ids in model.tokenizer(queries, truncation=False)["input_ids"]]

    found, times = ragweave(arguments, texts, is_query=False)
    model.encode_document(texts[:32])  # warm
    start = time.perf_counter()
    expected = model.encode_document(texts)
    torch_s = time.perf_counter() - start

    asked, query_times = ragweave(arguments, queries, is_query=True)
    query_ms = []
    for text in queries:
        start = time.perf_counter()
        model.encode_query([text])
        query_ms.append((time.perf_counter() - start) * 1e3)
    expected_queries = model.encode_query(queries)

    def cosines(ours, theirs):
        ours, theirs = numpy.asarray(ours, dtype=numpy.float64), numpy.asarray(theirs, dtype=numpy.float64)
        return (ours * theirs).sum(1) / numpy.linalg.norm(ours, axis=1) / numpy.linalg.norm(theirs, axis=1)

    whole = [at for at, length in enumerate(lengths) if length <= model.max_seq_length]
    documents = cosines(found, expected)[whole]
    least = min(documents.min(), cosines(asked, expected_queries).min())
    tokens = sum(min(length, model.max_seq_length) for length in lengths)
    print(f"{len(texts)} passages, {tokens} tokens ({len(whole)} within {model.max_seq_length}), {arguments.threads} threads")
    print(f"least cosine       1 - {1 - least:.2e} over {len(whole)} passages and {len(queries)} questions")
    print(f"documents          ragweave {sum(lengths) / times['embed_s']:.0f} tokens/s, sentence-transformers {tokens / torch_s:.0f}")
    print(
        f"question, median   ragweave {statistics.median(query_times['embed_ms']):.2f} ms, sentence-transformers "
        f"{statistics.median(query_ms):.2f} ms (median of {statistics.median(query_tokens):.0f} tokens, n = {len(queries)})"
    )
    print(f"load               ragweave {times['load_s']:.2f} s")
    sys.exit(0 if least >= MIN_COSINE else 1)


if __name__ == "__main__":
    main()
