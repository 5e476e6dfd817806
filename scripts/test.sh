#!/usr/bin/env bash
# Runs every test: the check for circles of imports, the workspace on the CPU, the engine again on the CPU kernels without
# AVX-512 and on Vulkan (Mesa's lavapipe if there is no GPU), and the documentation examples. Also checks that the CUDA code
# compiles. Ends with the runners' summaries.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

vulkan=yes
case "${1:-}" in
    '') ;;
    --no-vulkan) vulkan=no ;;
    *) echo "usage: scripts/test.sh [--no-vulkan]" >&2; exit 2 ;;
esac

# Settings of the caller must not reach the tests.
for variable in "${!RAGWEAVE_@}"; do unset "$variable"; done

python3 scripts/circles.py --self-test
python3 scripts/circles.py

if [ "$vulkan" = yes ]; then scripts/bootstrap.sh --tests --vulkan; else scripts/bootstrap.sh --tests; fi

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
summary=$logs/summary
: >"$summary"

headline() { printf '\n== %s\n' "$*"; }

# Runs one part of the tests and keeps the summary lines of its runner.
part() { # title, command...
    local title=$1 status=0
    shift
    headline "$title"
    echo "$*"
    "$@" 2>&1 | tee "$logs/part" || status=$?
    {
        echo "$title"
        grep -E '^ *Summary \[|^test result:' "$logs/part" || echo "  (no summary line)"
    } >>"$summary"
    if [ "$status" -ne 0 ]; then
        sum_up
        echo "FAILED: $title" >&2
        exit 1
    fi
}

sum_up() {
    headline "summary"
    cat "$summary"
}

# nextest runs the tests of all binaries in parallel; cargo test is the fallback if it is not installed.
if cargo nextest --version >/dev/null 2>&1; then
    runner=(cargo nextest run)
else
    runner=(cargo test)
fi

part "workspace on the CPU" "${runner[@]}" --workspace --release --locked
# The first part has run on the best kernels of this processor; one that lacks AVX2 runs the plain ones twice.
for isa in avx2 plain; do
    part "engine on $isa kernels" env RAGWEAVE_ISA=$isa "${runner[@]}" --workspace --test flex --release --locked
done
if [ "$vulkan" = yes ]; then
    part "engine on Vulkan" "${runner[@]}" -p ragweave-engine --features vulkan --lib --test vulkan --release --locked
else
    echo "engine on Vulkan: skipped by --no-vulkan" | tee -a "$summary"
fi
part "documentation examples" cargo test --doc --workspace --release --locked

headline "the CUDA code compiles (running it needs a GPU: scripts/gpu_check.sh)"
cargo check --release --locked -p ragweave-engine -p ragweave-server -p ragweave-eval --features cuda --lib --bins --test cuda
echo "CUDA code: compiles" >>"$summary"

sum_up
