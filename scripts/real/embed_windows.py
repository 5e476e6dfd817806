"""Embeds texts with sentence-transformers, as input of `ragweave-eval index` and `ragweave-eval retrieval`.

Two steps, each of which leaves a file that can be looked at:

    embed_windows.py windows --musique musique_s.json --count 100000 --out windows.jsonl DIR ...
    embed_windows.py passages --musique musique_s.json --out passages.jsonl
    embed_windows.py embed --model MINILM_DIR --texts windows.jsonl --out windows.safetensors

A text file has one JSON string a line, each text once. The vectors are the tensor `vectors`, float32 `[texts, dimension]`, in that order.
`windows` cuts the MuSiQue passages and the documentation below DIR (Markdown files, doc comments of Rust sources) into
windows of `--words` words that do not overlap, and puts them in an order that the seed fixes.
"""

import argparse
import json
import pathlib
import random
import re

DOC_COMMENT = re.compile(r"^\s*//[/!] ?(.*)$")
PIECE = 2000
# A longer word is an address or a path, not prose.
MAX_WORD = 20


def musique(path):
    """Every question and every distinct passage, title and text joined as `ragweave-eval` joins them."""
    items = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    questions, passages = [], []
    for item in items:
        questions.append(item["question"])
        for passage in item["ctxs"]:
            title = passage.get("title", "").strip()
            passages.append(f"{title}\n\n{passage['text']}" if title else passage["text"])
    return distinct(questions), distinct(passages)


def distinct(texts):
    return list(dict.fromkeys(texts))


def documentation(folder):
    """The prose of each Markdown file and of each Rust source's doc comments."""
    for path in sorted(pathlib.Path(folder).rglob("*")):
        if path.suffix not in (".md", ".rs") or not path.is_file():
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        if path.suffix == ".rs":
            lines = (DOC_COMMENT.match(line) for line in text.splitlines())
            text = "\n".join(line.group(1) for line in lines if line)
        yield text


def windows(text, words):
    found = [word for word in text.split() if len(word) <= MAX_WORD]
    for start in range(0, len(found) - words + 1, words):
        yield " ".join(found[start : start + words])


def write_texts(path, texts):
    with open(path, "w", encoding="utf-8") as out:
        for text in texts:
            out.write(json.dumps(text, ensure_ascii=False) + "\n")
    print(f"{len(texts)} texts in {path}")


def make_windows(args):
    _, passages = musique(args.musique)
    first = distinct(w for passage in passages for w in windows(passage, args.words))
    others = distinct(w for folder in args.folders for t in documentation(folder) for w in windows(t, args.words))
    chooser = random.Random(args.seed)
    chooser.shuffle(others)
    texts = distinct(first + others)[: args.count]
    if len(texts) < args.count:
        raise SystemExit(f"only {len(texts)} distinct windows; give more folders or fewer words")
    chooser.shuffle(texts)
    write_texts(args.out, texts)


def make_passages(args):
    questions, passages = musique(args.musique)
    write_texts(args.out, distinct(passages + questions))


def embed(args):
    import numpy
    import torch
    from safetensors.numpy import save_file
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(args.threads)
    model = SentenceTransformer(args.model, device="cpu")
    texts = [json.loads(line) for line in open(args.texts, encoding="utf-8")]
    out = pathlib.Path(args.out)
    pieces = []
    for start in range(0, len(texts), PIECE):
        # A piece that an interrupted run left is used again.
        piece = out.with_suffix(f".{start}.npy")
        if not piece.exists():
            vectors = model.encode(texts[start : start + PIECE], batch_size=args.batch, normalize_embeddings=True)
            numpy.save(piece, vectors.astype(numpy.float32))
        pieces.append(piece)
        print(f"{min(start + PIECE, len(texts))} of {len(texts)}", flush=True)
    save_file({"vectors": numpy.concatenate([numpy.load(piece) for piece in pieces])}, out)
    for piece in pieces:
        piece.unlink()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = parser.add_subparsers(required=True)
    step = steps.add_parser("windows")
    step.add_argument("folders", nargs="*")
    step.add_argument("--musique", required=True)
    step.add_argument("--count", type=int, default=100_000)
    step.add_argument("--words", type=int, default=20)
    step.add_argument("--seed", type=int, default=1)
    step.add_argument("--out", required=True)
    step.set_defaults(run=make_windows)
    step = steps.add_parser("passages")
    step.add_argument("--musique", required=True)
    step.add_argument("--out", required=True)
    step.set_defaults(run=make_passages)
    step = steps.add_parser("embed")
    step.add_argument("--model", required=True)
    step.add_argument("--texts", required=True)
    step.add_argument("--out", required=True)
    step.add_argument("--batch", type=int, default=64)
    step.add_argument("--threads", type=int, default=1)
    step.set_defaults(run=embed)
    return parser.parse_args()


if __name__ == "__main__":
    args = arguments()
    args.run(args)
