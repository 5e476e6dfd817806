#!/usr/bin/env bash
# Makes the virtual environment of the engines that ragweave is compared with: PyTorch with transformers, and
# llama.cpp, which is compiled here for this processor. Takes about ten minutes on two cores, most of them for
# llama.cpp, and 6 GB of disk. Running it again changes nothing. Prints the environment's path.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

usage() {
    cat <<'USAGE'
usage: scripts/peers/setup.sh [DIR]
  DIR   where the environment goes (default: $RAGWEAVE_PEERS, else ${XDG_CACHE_HOME:-$HOME/.cache}/ragweave/peers)
PYTHON names the interpreter (default: python3.11); a C++ compiler is needed too.
USAGE
}

case "${1:-}" in
    -h | --help) usage; exit 0 ;;
    -*) echo "setup: unknown argument: $1" >&2; usage >&2; exit 2 ;;
esac
dir=${1:-${RAGWEAVE_PEERS:-${XDG_CACHE_HOME:-$HOME/.cache}/ragweave/peers}}
python=${PYTHON:-python3.11}
llama_cpp=0.3.36
# Compiled for this processor, and without image support.
cmake_args="-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF"

fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# What is to be installed, and on what; the environment is complete if it says the same.
wanted=$(
    cat "$here/requirements.txt"
    echo "llama-cpp-python==$llama_cpp $cmake_args"
    grep -m 1 '^flags' /proc/cpuinfo | sha256sum
)
if [ -f "$dir/complete" ] && [ "$(cat "$dir/complete")" = "$wanted" ]; then
    echo "$dir"
    exit 0
fi

command -v "$python" >/dev/null || fail "$python is missing; name another Python 3.11 with PYTHON"
command -v c++ >/dev/null || fail "a C++ compiler is missing; on Debian: apt-get install build-essential"
[ -x "$dir/bin/python" ] || "$python" -m venv "$dir"
# Everything but the path goes to standard error.
"$dir/bin/pip" install --disable-pip-version-check -r "$here/requirements.txt" >&2
# Without the cache, which may have a build for another processor.
CMAKE_ARGS=$cmake_args CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)} \
    "$dir/bin/pip" install --disable-pip-version-check --no-cache-dir --force-reinstall --no-deps \
    --no-binary llama-cpp-python "llama-cpp-python==$llama_cpp" >&2
printf '%s\n' "$wanted" >"$dir/complete"
echo "$dir"
