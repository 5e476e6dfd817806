#!/usr/bin/env python3
"""Damages real model files in many ways; every command on them must end with one clear error.

    python3 scripts/real/check_bad_files.py --ragweave-eval BIN --gguf FILE.gguf --embedder DIR

Clear: exit code 1 or 2, no panic, and the damaged file or directory named on standard error.
"""

import argparse
import json
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

# One case: what is wrong, and the command that must refuse it.
Case = tuple[str, Path, list[str]]

# Header of a GGUF file: magic, version (u32), tensor count (u64), key count (u64).
VERSION_AT, TENSOR_COUNT_AT, FIRST_KEY_AT = 4, 8, 24


def gguf_damages(size: int) -> dict[str, Callable[[Path], None]]:
    def overwrite(offset: int, data: bytes) -> Callable[[Path], None]:
        def damage(path: Path) -> None:
            with path.open("r+b") as file:
                file.seek(offset)
                file.write(data)

        return damage

    def cut(length: int) -> Callable[[Path], None]:
        return lambda path: truncate(path, length)

    return {
        "empty file": cut(0),
        "cut inside the header": cut(20),
        "cut inside the metadata": cut(100_000),
        "cut inside the weights": cut(size - 1_000_000),
        "another magic": overwrite(0, b"GGML"),
        "version 99": overwrite(VERSION_AT, struct.pack("<I", 99)),
        "2^63 tensors": overwrite(TENSOR_COUNT_AT, struct.pack("<Q", 1 << 63)),
        "a key of 2^63 bytes": overwrite(FIRST_KEY_AT, struct.pack("<Q", 1 << 63)),
    }


def truncate(path: Path, length: int) -> None:
    with path.open("r+b") as file:
        file.truncate(length)


def gguf_cases(arguments: argparse.Namespace, work: Path) -> Iterator[Case]:
    for what, damage in gguf_damages(arguments.gguf.stat().st_size).items():
        path = work / "damaged.gguf"
        shutil.copyfile(arguments.gguf, path)
        damage(path)
        yield f"GGUF: {what}", path, ["logits", "--model", str(path), "--tokens", "1,2,3"]


def edit_json(path: Path, edit: Callable[[object], None]) -> None:
    value = json.loads(path.read_text())
    edit(value)
    path.write_text(json.dumps(value))


def embedder_damages() -> dict[str, Callable[[Path], None]]:
    return {
        "no config.json": lambda folder: (folder / "config.json").unlink(),
        "no tokenizer.json": lambda folder: (folder / "tokenizer.json").unlink(),
        "no weights": lambda folder: (folder / "model.safetensors").unlink(),
        "weights cut": lambda folder: truncate(folder / "model.safetensors", 10_000_000),
        "an unknown module": lambda folder: edit_json(
            folder / "modules.json",
            lambda modules: modules.append({"idx": 9, "name": "9", "path": "9_X", "type": "some.where.Unknown"}),
        ),
        "another architecture": lambda folder: edit_json(
            folder / "config.json", lambda config: config.update(model_type="megatron-bert")
        ),
        "weights narrower than the configuration": lambda folder: edit_json(
            folder / "config.json", lambda config: config.update(hidden_size=768)
        ),
    }


def embedder_cases(arguments: argparse.Namespace, work: Path) -> Iterator[Case]:
    for what, damage in embedder_damages().items():
        folder = work / "damaged-embedder"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(arguments.embedder, folder)
        damage(folder)
        yield f"embedder: {what}", folder, ["embed", "--embedder", str(folder), "--text", "a text", "--json"]


def fault(arguments: argparse.Namespace, damaged: Path, command: list[str]) -> str | None:
    """What is wrong with how the command refuses the damaged files."""
    run = subprocess.run([arguments.ragweave_eval, *command], capture_output=True, text=True, timeout=300)
    if run.returncode not in (1, 2):
        return f"exit code {run.returncode} instead of 1 or 2\n{run.stderr[-1000:]}"
    if "panicked" in run.stderr:
        return f"a panic\n{run.stderr[-1000:]}"
    if damaged.name not in run.stderr:
        return f"the message does not name {damaged.name}\n{run.stderr[-1000:]}"
    print(f"        {run.stderr.strip().splitlines()[-1]}")
    return None


def main() -> None:
    flags = argparse.ArgumentParser(description="Checks the errors of damaged model files.")
    flags.add_argument("--ragweave-eval", type=Path, required=True, metavar="BIN")
    flags.add_argument("--gguf", type=Path, required=True, metavar="FILE.gguf")
    flags.add_argument("--embedder", type=Path, required=True, metavar="DIR")
    arguments = flags.parse_args()
    faults = 0
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for cases in (gguf_cases(arguments, work), embedder_cases(arguments, work)):
            for what, damaged, command in cases:
                problem = fault(arguments, damaged, command)
                print(f"{'ok' if problem is None else 'FAULT':6}  {what}{'' if problem is None else ': ' + problem}", flush=True)
                faults += problem is not None
    if faults:
        raise SystemExit(f"{faults} damaged models were not refused as they should be")


if __name__ == "__main__":
    main()
