#!/usr/bin/env bash
# Checks that everything needed to build ragweave is there, and installs what is missing.
# Installing needs root or sudo without a password. Without either, this prints the command to run and exits with 1.
# Running it again changes nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
    cat <<'USAGE'
usage: scripts/bootstrap.sh [--vulkan] [--tests] [--models] [--oracles]
  --vulkan   also a Vulkan driver: Mesa's software driver lavapipe if there is none
  --tests    also cargo-nextest, the test runner (takes minutes to build; if that fails, test.sh uses cargo test)
  --models   also Python's pip, with which scripts/models.sh fetches pretrained models
  --oracles  also Python's venv, in which scripts/test-real.sh installs the libraries it compares with
USAGE
}

want_vulkan=no
want_tests=no
want_models=no
want_oracles=no
for argument in "$@"; do
    case "$argument" in
        --vulkan) want_vulkan=yes ;;
        --tests) want_tests=yes ;;
        --models) want_models=yes ;;
        --oracles) want_oracles=yes ;;
        -h | --help) usage; exit 0 ;;
        *) echo "bootstrap: unknown argument: $argument" >&2; usage >&2; exit 2 ;;
    esac
done

found() { printf '  found    %-10s %s\n' "$1" "$2"; }
missing() { printf '  missing  %-10s %s\n' "$1" "$2"; }
fail() { printf 'bootstrap: %s\n' "$*" >&2; exit 1; }

# Whether a shared library is there: in the loader's cache, or where Debian's LLVM packages put it.
has_library() {
    local cache
    cache=$(ldconfig -p 2>/dev/null || /sbin/ldconfig -p 2>/dev/null || true)
    grep -q "$1" <<<"$cache" && return
    compgen -G "/usr/lib/llvm-*/lib/$1*" >/dev/null
}

# --- Rust -----------------------------------------------------------------------------------------
check_rust() {
    local wanted have
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    if ! command -v cargo >/dev/null || ! command -v rustc >/dev/null; then
        fail "Rust is missing; install Rust $wanted or newer with rustup (https://rustup.rs), then run this again"
    fi
    have=$(rustc --version | cut -d' ' -f2)
    if [ "$(printf '%s\n' "$wanted" "${have%%-*}" | sort -V | head -n 1)" != "$wanted" ]; then
        fail "Rust $have is too old, $wanted or newer is needed; run: rustup update stable"
    fi
    found rust "$have"
}

# --- System packages ------------------------------------------------------------------------------
packages=()

need() { # name, what it is for, Debian packages
    missing "$1" "$2"
    shift 2
    packages+=("$@")
}

check_compiler() {
    if command -v cc >/dev/null && command -v c++ >/dev/null; then
        found "c, c++" "$(c++ --version | head -n 1)"
    else
        need "c, c++" "RocksDB and the tokenizer's regular expressions are compiled from source" build-essential
    fi
}

check_libclang() {
    if [ -n "${LIBCLANG_PATH:-}" ]; then
        found libclang "LIBCLANG_PATH=$LIBCLANG_PATH"
    elif command -v clang >/dev/null && has_library 'libclang[-.]'; then
        found libclang "$(clang --version | head -n 1)"
    else
        need libclang "bindgen reads RocksDB's header with it" clang libclang-dev
    fi
}

check_vulkan() {
    if has_library 'libvulkan\.so\.1'; then
        found vulkan "the loader"
    else
        need vulkan "the loader, for --device vulkan:N and the Vulkan tests" libvulkan1
    fi
    if compgen -G '/usr/share/vulkan/icd.d/*.json' >/dev/null || compgen -G '/etc/vulkan/icd.d/*.json' >/dev/null; then
        found driver "a Vulkan driver"
    else
        need driver "a Vulkan driver; lavapipe runs it on the processor" mesa-vulkan-drivers
    fi
}

check_pip() {
    if python3 -m pip --version >/dev/null 2>&1; then
        found pip "$(python3 -m pip --version)"
    else
        need pip "pretrained models are fetched with it" python3 python3-pip
    fi
}

check_venv() {
    # A Python without ensurepip makes no virtual environment that has pip.
    if python3 -c 'import venv, ensurepip' 2>/dev/null; then
        found venv "$(python3 --version)"
    else
        need venv "the libraries that real models are compared with are installed in one" python3 python3-venv
    fi
}

# Prints how to become root; fails if that would ask for a password.
root_prefix() {
    [ "$(id -u)" -eq 0 ] && return
    command -v sudo >/dev/null && sudo -n true 2>/dev/null && echo "sudo"
}

install_packages() {
    [ "${#packages[@]}" -gt 0 ] || return 0
    if ! command -v apt-get >/dev/null; then
        echo "bootstrap: no apt-get here; install the equivalents of these Debian packages, then run this again:" >&2
        echo "  ${packages[*]}" >&2
        echo "on Fedora, for example: dnf install gcc-c++ clang clang-devel vulkan-loader mesa-vulkan-drivers python3-pip" >&2
        exit 1
    fi
    local prefix install
    install="apt-get install -y --no-install-recommends ${packages[*]}"
    if ! prefix=$(root_prefix); then
        echo "bootstrap: installing needs root. Run this, then run scripts/bootstrap.sh again:" >&2
        echo "  sudo apt-get update && sudo $install" >&2
        exit 1
    fi
    echo "  installing: ${prefix:+$prefix }$install"
    # If the package lists cannot be refreshed, the present ones may be good enough.
    ${prefix} apt-get update -q || echo "  the package lists could not be refreshed; trying with the present ones"
    # shellcheck disable=SC2086  # split into words on purpose
    ${prefix} env DEBIAN_FRONTEND=noninteractive $install ||
        fail "the installation failed; the lines above say why"
}

# --- Test runner ----------------------------------------------------------------------------------
check_nextest() {
    if cargo nextest --version >/dev/null 2>&1; then
        found nextest "$(cargo nextest --version | head -n 1)"
        return
    fi
    missing nextest "building it; this takes some minutes"
    if cargo install cargo-nextest --locked; then
        found nextest "installed"
    else
        echo "  cargo-nextest could not be installed; test.sh will use cargo test, which is slower"
    fi
}

echo "bootstrap: what the build needs"
check_rust
check_compiler
check_libclang
[ "$want_vulkan" = no ] || check_vulkan
[ "$want_models" = no ] || check_pip
[ "$want_oracles" = no ] || check_venv
install_packages
[ "$want_tests" = no ] || check_nextest
command -v python3 >/dev/null ||
    echo "  note: python3 is missing; test.sh, the Python client, models.sh and the scripts that make fixtures need it"
echo "bootstrap: ready"
