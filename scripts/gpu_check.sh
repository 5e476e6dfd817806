#!/usr/bin/env bash
# Checks ragweave on an NVIDIA GPU: the engine's suite on CUDA, then the time to first token of full prefill, reuse and
# fusion for a model in the shape of Llama-3.2-1B (random weights, bf16). Writes docs/results/gpu.md.
#
# The binaries may be built on another machine, without a GPU and without the CUDA toolkit:
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
    *) sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
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
    # Cargo names a test binary by a hash; its JSON messages say which.
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
    # The kernels are compiled while running, from source that includes CUDA's headers.
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

run_checks() {
    body=$(mktemp)
    trap 'rm -f "$body"' EXIT
    headline "the engine's suite on CUDA"
    # One thread: the tests share one device, and a failure is easier to read alone.
    local suite_status=0
    recorded "$suite" --test-threads 1 || suite_status=$?
    headline "time to first token"
    local bench_status=0
    recorded "$eval" bench --random-weights eval/configs/llama-3.2-1b.json \
        --device cuda:0 --dtype bf16 --kv-dtype bf16 || bench_status=$?
    write_report "$suite_status" "$bench_status"
    [ "$suite_status" -eq 0 ] || fail "the suite failed on CUDA; $report holds its output"
    [ "$bench_status" -eq 0 ] || fail "the measurement failed; $report holds its output"
    echo "written: $report"
}

write_report() { # exit status of the suite, of the measurement
    {
        echo "# On a GPU"
        echo
        echo "Made by \`scripts/gpu_check.sh\`; run it again to replace this page."
        echo
        echo "| | |"
        echo "|---|---|"
        echo "| date | $(date -u +%Y-%m-%d) |"
        echo "| commit | $(git rev-parse --short HEAD 2>/dev/null || echo "not known here") |"
        echo "| GPU, driver, memory | $gpu |"
        echo "| suite on CUDA | $([ "$1" -eq 0 ] && echo passed || echo "failed, exit code $1") |"
        echo "| measurement | $([ "$2" -eq 0 ] && echo "done" || echo "failed, exit code $2") |"
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
