#!/usr/bin/env bash
# Checks ragweave on an NVIDIA GPU. First the engine's test suite on CUDA, which compares every kernel with its reference;
# then the time to first token of full prefill, reuse and fusion, and the decode rate, in the shapes of Llama-3.1-8B and
# Mistral-7B (random weights, bf16), with KV in host memory and with KV read from disk; then PyTorch's full prefill, if Python
# has torch and transformers (PYTHON names the interpreter). Writes docs/results/gpu.md. Needs no network.
#
# The binaries can be built on another machine, without a GPU and without the CUDA toolkit:
#   scripts/gpu_check.sh --build DIR     builds them and puts them into DIR
#   scripts/gpu_check.sh --bin DIR       runs those, from a checkout of the same commit
#   scripts/gpu_check.sh                 does both, with DIR target/gpu
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

dir=target/gpu
build=yes
check=yes
case "${1:-}" in
    '') ;;
    --build) check=no; dir=${2:?--build needs a directory} ;;
    --bin) build=no; dir=${2:?--bin needs a directory} ;;
    *) sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac

suite=$dir/engine-cuda-suite
eval=$dir/ragweave-eval
report=docs/results/gpu.md

headline() { printf '\n== %s\n' "$*"; }
fail() { printf 'gpu_check: %s\n' "$*" >&2; exit 1; }

build_binaries() {
    headline "build with feature cuda, into $dir"
    mkdir -p "$dir"
    cargo build --release --locked -p ragweave-eval --features cuda
    cp "${CARGO_TARGET_DIR:-target}/release/ragweave-eval" "$eval"
    # The name of a test binary contains a hash; cargo's JSON messages give it.
    local built
    built=$(cargo test --release --locked -p ragweave-engine --features cuda --test cuda --no-run \
        --message-format json | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
    [ -x "$built" ] || fail "cargo named no test binary"
    cp "$built" "$suite"
}

check_machine() {
    headline "machine"
    [ -x "$suite" ] && [ -x "$eval" ] || fail "$dir lacks the binaries; build them: scripts/gpu_check.sh --build $dir"
    command -v nvidia-smi >/dev/null || fail "nvidia-smi is missing: no NVIDIA driver is installed here"
    local listed
    listed=$(nvidia-smi -L 2>&1 || true)
    [[ "$listed" == GPU* ]] || fail "the driver sees no GPU; nvidia-smi -L says: $listed"
    gpu=$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader | head -n 1)
    echo "GPU: $gpu"
    # Kernels are compiled at run time, from source that includes CUDA's headers.
    cuda=${CUDA_PATH:-/usr/local/cuda}
    [ -f "$cuda/include/cuda_fp16.h" ] ||
        fail "no CUDA headers in $cuda/include; install the CUDA toolkit, or set CUDA_PATH to where its include folder is"
    echo "CUDA headers: $cuda/include"
    local nvrtc libraries
    libraries=$(ldconfig -p 2>/dev/null || /sbin/ldconfig -p 2>/dev/null || true)
    nvrtc=$(grep -o 'libnvrtc\.so[.0-9]*' <<<"$libraries" | head -n 1 || true)
    if [ -z "$nvrtc" ]; then
        local place
        for place in ${LD_LIBRARY_PATH:+${LD_LIBRARY_PATH//:/ }} "$cuda/lib64"; do
            nvrtc=$(compgen -G "$place/libnvrtc.so*" | head -n 1 || true)
            [ -z "$nvrtc" ] || { export LD_LIBRARY_PATH="$place${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"; break; }
        done
    fi
    [ -n "$nvrtc" ] || fail "libnvrtc.so is missing; install the CUDA toolkit, or name its folder in LD_LIBRARY_PATH"
    echo "NVRTC: $nvrtc"
}

# Runs a command, shows its output and adds both to the report.
recorded() {
    local status=0 output
    output=$(mktemp)
    "$@" 2>&1 | tee "$output" || status=$?
    {
        printf '\n    $ %s\n' "${*#"$dir"/}"
        sed 's/^/    /' "$output"
    } >>"$body"
    rm -f "$output"
    return "$status"
}

# Shapes, and the number of chunks of 512 tokens in a prompt. Ratio 0.15 is meant for hkvd and 0.03 for first-k; both are
# measured for both.
models="llama-3.1-8b mistral-7b-v0.3"
chunk_counts="6 16"
bench_flags="--prefix-tokens 0 --policies hkvd,first-k --ratios 0.03,0.15 --decode-tokens 64 --max-prefill-tokens 2048
    --device cuda:0 --dtype bf16 --kv-dtype bf16"

run_checks() {
    body=$(mktemp)
    trap 'rm -f "$body"' EXIT
    headline "the engine's suite on CUDA"
    # One thread: the tests share one device, and a single failure is easier to read.
    local suite_status=0
    recorded "$suite" --test-threads 1 || suite_status=$?
    headline "time to first token"
    local bench_status=0 torch_status=none
    run_benches || bench_status=$?
    headline "PyTorch, full prefill"
    if has_torch; then
        torch_status=0
        run_torch || torch_status=$?
    else
        echo "left out: ${PYTHON:-python3} has no torch with CUDA, or no transformers"
    fi
    write_report "$suite_status" "$bench_status" "$torch_status"
    [ "$suite_status" -eq 0 ] || fail "the suite failed on CUDA; $report has its output"
    [ "$bench_status" -eq 0 ] || fail "a measurement failed; $report has its output"
    echo "written: $report"
}

# Runs all of them even if one fails: a model may be too large for a GPU on which the other fits.
run_benches() {
    local model chunks place failed=0
    for model in $models; do
        for chunks in $chunk_counts; do
            for place in memory cold; do
                # shellcheck disable=SC2086 # flags, one word each
                recorded "$eval" bench --random-weights "eval/configs/$model.json" --chunks "$chunks" --kv "$place" \
                    $bench_flags || failed=$?
            done
        done
    done
    return "$failed"
}

has_torch() {
    "${PYTHON:-python3}" -c 'import torch, transformers; assert torch.cuda.is_available()' 2>/dev/null
}

# The same lengths: chunks, and a question of 64 tokens. Without a prefix, full prefill takes nothing from a cache.
run_torch() {
    local model failed=0 lengths=()
    for chunks in $chunk_counts; do
        lengths+=(--prompt-tokens $((chunks * 512 + 64)))
    done
    for model in $models; do
        recorded "${PYTHON:-python3}" scripts/peers/bench_torch_cuda.py "eval/configs/$model.json" "${lengths[@]}" ||
            failed=$?
    done
    return "$failed"
}

write_report() { # exit status of the suite, of the measurements, of PyTorch ("none": not there)
    {
        echo "# On a GPU"
        echo
        echo "Made by \`scripts/gpu_check.sh\`; run it again to replace this page."
        echo
        echo "| | |"
        echo "|---|---|"
        echo "| date | $(date -u +%Y-%m-%d) |"
        echo "| commit | $(git rev-parse --short HEAD 2>/dev/null || echo unknown) |"
        echo "| GPU, driver, memory | $gpu |"
        echo "| suite on CUDA | $([ "$1" -eq 0 ] && echo passed || echo "failed, exit code $1") |"
        echo "| measurements | $([ "$2" -eq 0 ] && echo "done" || echo "failed, exit code $2") |"
        echo "| PyTorch | $(case "$3" in 0) echo "done" ;; none) echo "not installed" ;; *) echo "failed, exit code $3" ;; esac) |"
        echo "| command | \`scripts/gpu_check.sh\`, which ran the commands below |"
        cat "$body"
    } >"$report"
}

[ "$build" = no ] || build_binaries
if [ "$check" = yes ]; then
    check_machine
    run_checks
else
    echo "built: $suite, $eval"
fi
