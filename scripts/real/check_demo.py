#!/usr/bin/env python3
"""Asks a running server the demo's questions; fails where a source or full prefill's answer lacks what is expected.

    python3 scripts/real/check_demo.py --ragweave target/release/ragweave --addr URL [--questions FILE]

Reuse and blend are approximations: their answers are printed, not judged. Blend is asked for by name: with auto, the
choice would depend on how busy the machine is.
"""

import argparse
import json
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODES = ("full", "reuse", "blend")


def ask(arguments: argparse.Namespace, question: str, mode: str) -> dict:
    flags = ["--addr", arguments.addr, "--mode", mode, "--max-tokens", "32", "--json"]
    command = [arguments.ragweave, "query", question, *flags]
    output = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=600)
    return json.loads(output.stdout)


def holds(text: str, expected: list[str]) -> bool:
    return any(answer.lower() in text.lower() for answer in expected)


def check(arguments: argparse.Namespace, line: dict) -> list[str]:
    """Prints the answers to one question, and gives what is wrong with them."""
    question, expected = line["question"], line["answers"]
    print(f"\n{question} (expected: {' or '.join(expected)})", flush=True)
    replies = {mode: ask(arguments, question, mode) for mode in MODES}
    for mode, reply in replies.items():
        verdict = "right" if holds(reply["answer"], expected) else "WRONG"
        ttft = reply["client_ttft_ms"]
        print(f"  {mode:6} {ttft:9.0f} ms  {verdict}  {' '.join(reply['answer'].split())}", flush=True)
    faults = []
    if not any(holds(source["text"], expected) for source in replies["full"]["sources"]):
        faults.append(f"{question}: no source contains the answer")
    if not holds(replies["full"]["answer"], expected):
        faults.append(f"{question}: full prefill answers {replies['full']['answer']!r}")
    return faults


def main() -> None:
    flags = argparse.ArgumentParser(description="Checks the answers to the demo's questions.")
    flags.add_argument("--ragweave", type=Path, required=True, metavar="BIN")
    flags.add_argument("--addr", required=True, metavar="URL", help="of a server with the demo's corpus")
    questions = ROOT / "demo/real/questions.jsonl"
    flags.add_argument("--questions", type=Path, default=questions, metavar="FILE")
    arguments = flags.parse_args()
    lines = [json.loads(line) for line in arguments.questions.read_text().splitlines() if line.strip()]
    if not lines:
        raise SystemExit(f"{arguments.questions}: no questions")
    faults = [fault for line in lines for fault in check(arguments, line)]
    if faults:
        raise SystemExit("\n".join(faults))
    print(f"\nall {len(lines)} questions: a source holds the answer, and full prefill gives it")


if __name__ == "__main__":
    main()
