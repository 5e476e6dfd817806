#!/usr/bin/env bash
# Compares ragweave with PyTorch and llama.cpp on one model shape, and prints a Markdown table; see --help. Installs
# and builds what is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

build=yes
for argument in "$@"; do
    case "$argument" in
        --bin | --bin=* | -h | --help) build=no ;;
    esac
done

peers=$(scripts/peers/setup.sh)
if [ "$build" = yes ]; then
    cargo build --release --locked -p ragweave-server -p ragweave-eval
fi

# Settings of the caller must not reach an engine. The last two choose kernels for older OpenBLAS builds.
for variable in "${!RAGWEAVE_@}"; do unset "$variable"; done
unset RAYON_NUM_THREADS OMP_NUM_THREADS MKL_NUM_THREADS OPENBLAS_NUM_THREADS OPENBLAS_CORETYPE OPENBLAS_L2_SIZE
exec "$peers/bin/python" scripts/peers/compare.py "$@"
