#!/usr/bin/env python3
"""Compares ragweave with `transformers`, which reads the same GGUF file: token ids, and logits in f32.

    pip install -r scripts/real/requirements.txt
    python scripts/real/parity.py MODEL.gguf target/release/ragweave-eval [--lengths 12 700] [--only-tokens]

Exit status 1 if the ids of a text differ, or if any logit of the last position differs by more than 1e-3 of the
spread (largest minus smallest) of the logits. The prompts are token ids of this project's documentation, so both
sides compute the same sequence whatever their tokenizers do.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOLERANCE = 1e-3

# Texts that tokenizers are known to differ in. None spells a special token: transformers would find it, ragweave
# must not. White space stays below the longest run that Gemma has a token for (31).
TEXTS = [
    "", "a", " a", "  a", "Hello, world!", "trailing space ", "two  spaces   three", "\n", "\n\n", "a\n\n\nb", "\ttab\t\ttabs",
    " \n \n", "        deep indent\n            deeper", "\r\nwindows\r\n", "1234567890", "3.14159 1,000,000 0xFF 1e-5",
    "2026-12-01T04:05:06Z", "\u0661\u0662\u0663 \u0967\u0968\u0969 \u00bd \u2166", "don't we'll I'M you'RE he'd",
    "CamelCase snake_case SCREAMING_CASE kebab-case", "fn main() {\n    let x: Vec<u8> = vec![0; n];\n}\n",
    "def f(x):\n\treturn x ** 2  # square\n", "https://example.org/a?b=c&d=%20#e", "a@b.example, (x) [y] {z} <= >= != ->",
    "\ud55c\uad6d\uc5b4 \ud615\ud0dc\uc18c \ubd84\uc11d\uc740 \uc5b4\ub835\ub2e4.", "\u3131\u314f \uc548\ub155\ud558\uc138\uc694?!", "\u4eca\u5929\u5929\u6c14\u4e0d\u9519\uff0c\u6211\u4eec\u53bb\u516c\u56ed\u3002",
    "\u65e5\u672c\u8a9e\u306e\u6587\u7ae0\u3068\u30ab\u30bf\u30ab\u30ca\u3002", "\U0001f600 \U0001f469\u200d\U0001f4bb \U0001f1f0\U0001f1f7 \U0001f44d\U0001f3fd", "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u05e2\u05d1\u05e8\u05d9\u05ea", "\u0939\u093f\u0928\u094d\u0926\u0940 \u0e44\u0e17\u0e22",
    "caf\u00e9 na\u00efve \u00c5ngstr\u00f6m \u0141\u00f3d\u017a", "zero\u200bwidth \u00a0nbsp \u3000ideographic", "\ufeffbom", "\u0000nul \u0007bell",
    "\U00010348 \U0001d54f \U000e0041", "x" * 300, "ab " * 100, "\u2581 the mark of SentencePiece",
]


def ragweave(binary, *arguments):
    result = subprocess.run([binary, *arguments], capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"{binary} {arguments[0]}: {result.stderr.strip()}")
    return json.loads(result.stdout)


def own_tokenizer(path):
    """What ids should be. transformers reads GGUF files of SmolLM2 without its rule for digits, and does not know
    which model a file is of: the rule is that of HuggingFaceTB/SmolLM2-135M-Instruct/tokenizer.json."""
    from gguf import GGUFReader
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).backend_tokenizer
    field = GGUFReader(path).fields.get("tokenizer.ggml.pre")
    if field and field.contents() == "smollm":
        parts = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(parts)
    return tokenizer


def compare_ids(path, binary, tokenizer):
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(TEXTS, file)
        file.flush()
        ours = ragweave(binary, "tokens", "--model", str(path), "--texts", file.name)["ids"]
    theirs = [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
    wrong = [(text, a, b) for text, a, b in zip(TEXTS, ours, theirs, strict=True) if a != b]
    for text, a, b in wrong:
        print(f"ids differ for {text[:60]!r}:\n  ragweave     {a[:20]}\n  transformers {b[:20]}")
    print(f"token ids: {len(TEXTS) - len(wrong)} of {len(TEXTS)} texts equal")
    return not wrong


def compare_logits(path, binary, tokenizer, lengths):
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()

    text = (ROOT / "docs/operations.md").read_text()
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()
    good = True
    for length in lengths:
        prompt = ids[:length]
        if len(prompt) < length:
            sys.exit(f"the text has {len(ids)} tokens, fewer than {length}")
        with torch.no_grad():
            theirs = model(torch.tensor([prompt]), logits_to_keep=1).logits[0, -1].float()
        tokens = ",".join(map(str, prompt))
        output = ragweave(binary, "logits", "--json", "--dtype", "f32", "--model", str(path), "--tokens", tokens)
        ours = torch.tensor(output["logits"])
        spread = (theirs.max() - theirs.min()).item()
        difference = (ours - theirs).abs().max().item()
        same = ours.argmax().item() == theirs.argmax().item()
        good &= same and difference <= TOLERANCE * spread
        print(
            f"{length} tokens: largest difference {difference:.2e}, {difference / spread:.1e} of the spread {spread:.2f}; "
            f"best token {'equal' if same else 'DIFFERS'}"
        )
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a GGUF file")
    parser.add_argument("binary", help="ragweave-eval")
    parser.add_argument("--lengths", type=int, nargs="+", default=[12, 700], metavar="TOKENS")
    parser.add_argument("--only-tokens", action="store_true", help="do not compare logits")
    args = parser.parse_args()
    path = args.model.resolve()
    tokenizer = own_tokenizer(path)
    good = compare_ids(path, args.binary, tokenizer)
    if not args.only_tokens:
        good &= compare_logits(path, args.binary, tokenizer, args.lengths)
    sys.exit(not good)


if __name__ == "__main__":
    main()
