#!/usr/bin/env python3
"""Compares ragweave with PyTorch and llama.cpp on one model shape, or with llama.cpp on one GGUF file; run it with
compare.sh.

Every engine runs once a round in a process of its own, which warms up before it measures; rounds
begin with another engine each, so that a machine that gets slower is slower for all. The table has
the medians of the rounds.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ragweave"
PREFILL, DECODE = "prefill_tokens_per_s", "decode_tokens_per_s"
CHUNK_TOKENS, QUESTION_TOKENS = 512, 64
# The rows of ragweave in the table besides full prefill.
FUSED = ("first-k", "hkvd")
RATIO = 0.15
GGUF_NOTE = (
    "All engines read the same file. ragweave widens the weights to its dtype when it loads them; "
    "llama.cpp computes on the stored blocks."
)

# Rates of each variant an engine was run in.
Rates = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Contestant:
    """An engine in one dtype: how to run it once, and how to read what it prints."""

    name: str
    dtype: str
    command: list[str]
    read: Callable[[dict], Rates]

    @property
    def key(self) -> str:
        return f"{self.name}-{self.dtype}"


def prompt_shape(n_tokens: int) -> tuple[int, int, int]:
    """Chunks, tokens of each and tokens of the question, `n_tokens` in all."""
    chunks = max(1, (n_tokens - QUESTION_TOKENS) // CHUNK_TOKENS)
    chunk_tokens = max(1, (n_tokens - QUESTION_TOKENS) // chunks)
    return chunks, chunk_tokens, n_tokens - chunks * chunk_tokens


def ragweave(arguments: argparse.Namespace, weights: Path, dtype: str) -> Contestant:
    chunks, chunk_tokens, question_tokens = prompt_shape(arguments.prompt_tokens)
    options = {
        "--model" if arguments.gguf else "--random-weights": weights,
        "--dtype": dtype,
        "--chunks": chunks,
        "--chunk-tokens": chunk_tokens,
        "--question-tokens": question_tokens,
        # A prefix is kept on the device and would not be computed again; peers compute every token.
        "--prefix-tokens": 0,
        "--policies": ",".join(FUSED),
        "--ratios": RATIO,
        "--kv": "memory",
        "--repeats": 1,
        # The first token comes from the prompt's logits.
        "--decode-tokens": arguments.decode_tokens + 1,
    }
    flags = [str(word) for option in options.items() for word in option]
    command = [str(arguments.bin), "bench", *flags, "--json"]
    return Contestant("ragweave", dtype, command, read_ragweave)


def read_ragweave(report: dict) -> Rates:
    def rates(row: dict) -> dict[str, float]:
        prefill = 1000.0 * report["prompt_tokens"] / row["ttft_ms_p50"]
        return {PREFILL: prefill, DECODE: row["decode_tokens_per_s"]}

    full = next(row for row in report["rows"] if row["mode"] == "full")
    if full["tokens_prefilled"] != report["prompt_tokens"]:
        raise SystemExit(
            f"ragweave's full prefill computed {full['tokens_prefilled']} of {report['prompt_tokens']} tokens"
        )

    def variant(row: dict) -> str:
        return "full" if row["mode"] == "full" else f"{row['policy']} at ratio {row['ratio']}"

    return {variant(row): rates(row) for row in report["rows"] if row["mode"] != "reuse"}


def peer(
    arguments: argparse.Namespace, weights: Path, name: str, dtype: str, command: list[str]
) -> Contestant:
    script, *flags = command
    options = {
        "--prompt-tokens": arguments.prompt_tokens,
        "--decode-tokens": arguments.decode_tokens,
        "--threads": arguments.threads,
        "--repeats": 1,
    }
    flags += [str(word) for option in options.items() for word in option]
    command = [sys.executable, str(HERE / script), str(weights), *flags]
    return Contestant(name, dtype, command, lambda line: line["variants"])


def contestants(arguments: argparse.Namespace, weights: Path) -> list[Contestant]:
    """Those asked for; by default all that the processor has instructions for."""
    of_peer = partial(peer, arguments, weights)
    every = [ragweave(arguments, weights, "f32"), ragweave(arguments, weights, "f16")]
    if arguments.gguf:
        every.append(of_peer("llama.cpp", "gguf", ["bench_llama.py"]))
    else:
        every += [
            of_peer("torch", "f32", ["bench_torch.py", "--dtype", "f32"]),
            of_peer("torch", "bf16", ["bench_torch.py", "--dtype", "bf16"]),
            of_peer("llama.cpp", "f16", ["bench_llama.py"]),
        ]
    by_key = {contestant.key: contestant for contestant in every}
    if arguments.engines is None:
        flags = cpu_field("flags").split()
        has_bf16 = any(flag in flags for flag in ("avx512_bf16", "amx_bf16"))
        return [c for key, c in by_key.items() if has_bf16 or key != "torch-bf16"]
    unknown = [key for key in arguments.engines if key not in by_key]
    if unknown:
        raise SystemExit(f"--engines: {', '.join(unknown)}; known: {', '.join(by_key)}")
    return [by_key[key] for key in arguments.engines]


def run(command: list[str], threads: int) -> dict:
    """Runs one command on the first `threads` processors and reads the JSON it prints."""
    processors = sorted(os.sched_getaffinity(0))[:threads]
    output = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, processors),
    )
    if output.returncode != 0:
        raise SystemExit(f"{output.stderr[-2000:]}\nfailed: {shlex.join(command)}")
    return json.loads(output.stdout)


def measure(field: list[Contestant], arguments: argparse.Namespace) -> dict[str, list[Rates]]:
    """What each contestant did in each round."""
    results = {contestant.key: [] for contestant in field}
    for round_idx in range(arguments.repeats):
        first = round_idx % len(field)
        for contestant in field[first:] + field[:first]:
            rates = contestant.read(run(contestant.command, arguments.threads))
            results[contestant.key].append(rates)
            rates = "; ".join(
                f"{variant}: prefill {of[PREFILL]:.1f}, decode {of[DECODE]:.1f} tok/s"
                for variant, of in rates.items()
            )
            print(f"round {round_idx + 1}, {contestant.key}: {rates}", file=sys.stderr, flush=True)
    return results


def medians(rounds: list[Rates]) -> Rates:
    return {
        variant: {rate: median(rates[variant][rate] for rates in rounds) for rate in (PREFILL, DECODE)}
        for variant in rounds[0]
    }


def ratio(ours: dict[str, float] | None, theirs: dict[str, float], rate: str) -> str:
    return "-" if ours is None else f"{ours[rate] / theirs[rate]:.2f}"


def table(field: list[Contestant], results: dict[str, list[Rates]]) -> list[str]:
    """One row per engine, dtype and variant, with full prefill of ragweave over it."""
    by_key = {contestant.key: medians(results[contestant.key]) for contestant in field}
    ours = {dtype: by_key.get(f"ragweave-{dtype}", {}).get("full") for dtype in ("f32", "f16")}
    rows = [
        "| engine | dtype | variant | prefill tok/s | decode tok/s "
        "| ragweave f32 to it: prefill | decode | ragweave f16 to it: prefill | decode |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for contestant in field:
        for variant, rates in by_key[contestant.key].items():
            ratios = [ratio(own, rates, rate) for own in ours.values() for rate in (PREFILL, DECODE)]
            cells = [contestant.name, contestant.dtype, variant]
            cells += [f"{rates[PREFILL]:.1f}", f"{rates[DECODE]:.1f}", *ratios]
            rows.append(f"| {' | '.join(cells)} |")
    return rows


def cpu_field(name: str) -> str:
    """A field of the first processor in /proc/cpuinfo."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(name)), "")


def versions() -> str:
    lines = (Path(sys.prefix) / "complete").read_text().splitlines()
    return ", ".join(line.split()[0] for line in lines if "==" in line)


def page(arguments: argparse.Namespace, rows: list[str]) -> str:
    flags = cpu_field("flags").split()
    known = ("avx2", "f16c", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16")
    chunks, chunk_tokens, question_tokens = prompt_shape(arguments.prompt_tokens)
    command = shlex.join(["scripts/peers/compare.sh", *arguments.given])
    name = arguments.gguf.name if arguments.gguf else arguments.config.stem
    return "\n".join(
        [
            f"`{name}`, {date.today()}, {cpu_field('model name')} "
            f"({', '.join(flag for flag in known if flag in flags)}), {arguments.threads} threads:",
            "",
            f"    {command}",
            "",
            f"Prefill of {arguments.prompt_tokens} tokens with logits of the last one, then "
            f"{arguments.decode_tokens} tokens decoded; medians of {arguments.repeats} interleaved rounds. "
            f"ragweave's fused rows load {chunks} chunks of {chunk_tokens} tokens from memory, before a "
            f"question of {question_tokens}; their rate counts the whole prompt. {versions()}.",
            *([GGUF_NOTE] if arguments.gguf else []),
            "",
            *rows,
            "",
        ]
    )


def make_weights(config: Path) -> Path:
    """The shape's weights, made if they do not exist yet."""
    directory = CACHE / "peers-weights" / config.stem
    shape = json.loads(config.read_text()) | {"torch_dtype": "float32"}
    made = directory / "config.json"
    if not made.is_file() or json.loads(made.read_text()) != shape:
        print(f"making weights in {directory}", file=sys.stderr, flush=True)
        made.unlink(missing_ok=True)
        command = [sys.executable, HERE / "make_weights.py", config, directory]
        subprocess.run(command, check=True, stdout=sys.stderr)
    return directory


def parse_arguments() -> argparse.Namespace:
    flags = argparse.ArgumentParser(prog="compare.sh", description="ragweave, PyTorch and llama.cpp.")
    config = ROOT / "eval/configs/smollm2-135m.json"
    flags.add_argument("--config", type=Path, default=config, help="a model shape")
    flags.add_argument("--gguf", type=Path, metavar="FILE.gguf", help="a model instead of a shape; without PyTorch")
    flags.add_argument("--prompt-tokens", type=int, default=3136, metavar="P")
    flags.add_argument("--decode-tokens", type=int, default=32, metavar="D")
    flags.add_argument("--repeats", type=int, default=5, metavar="R", help="rounds")
    processors = len(os.sched_getaffinity(0))
    flags.add_argument("--threads", type=int, default=processors, metavar="N")
    flags.add_argument("--engines", type=lambda text: text.split(","), metavar="NAME-DTYPE,..")
    flags.add_argument("--out", type=Path, metavar="FILE.md", help="write the table there too")
    flags.add_argument("--check", action="store_true", help="compare logits instead of times")
    built = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target") / "release/ragweave-eval"
    flags.add_argument("--bin", type=Path, default=built, help="ragweave-eval, instead of building it")
    arguments = flags.parse_args()
    arguments.given = sys.argv[1:]
    if arguments.prompt_tokens <= QUESTION_TOKENS:
        flags.error(f"--prompt-tokens: must be above {QUESTION_TOKENS}")
    if arguments.gguf and arguments.check:
        flags.error("--check is for shapes; scripts/real/parity.py compares the logits of a GGUF file")
    if arguments.gguf and not arguments.gguf.is_file():
        flags.error(f"--gguf: {arguments.gguf} is not a file")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    weights = arguments.gguf or make_weights(arguments.config)
    if arguments.check:
        command = [HERE / "check.py", weights, "--ragweave", arguments.bin]
        raise SystemExit(subprocess.run([sys.executable, *command]).returncode)
    field = contestants(arguments, weights)
    text = page(arguments, table(field, measure(field, arguments)))
    print(text)
    if arguments.out is not None:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
