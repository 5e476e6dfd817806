#!/usr/bin/env bash
# Runs every test that needs pretrained models: fetches the models and the libraries they are compared with, and fails,
# rather than skips, where something is missing. Takes about an hour on two cores, and 8 GB of disk. Ends with a summary.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case "${1:-}" in
    '') ;;
    *) echo "usage: scripts/test-real.sh" >&2; exit 2 ;;
esac

# Settings of the caller must not reach the tests.
for variable in "${!RAGWEAVE_@}"; do unset "$variable"; done

work=$(mktemp -d)
server_pid=
clean_up() {
    [ -z "$server_pid" ] || kill -TERM "$server_pid" 2>/dev/null || true
    rm -rf "$work"
}
trap clean_up EXIT

headline() { printf '\n== %s\n' "$*"; }
passed=0
failed=0
verdicts=()

# Runs one part of the tests. Others run even if it fails.
part() { # title, command...
    local title=$1
    shift
    headline "$title"
    printf '%s\n' "$*"
    if "$@"; then
        passed=$((passed + 1))
        verdicts+=("ok      $title")
    else
        failed=$((failed + 1))
        verdicts+=("FAILED  $title")
    fi
}

headline "what the tests need"
scripts/bootstrap.sh --models --oracles
smollm2=$(scripts/models.sh smollm2)
gemma3=$(scripts/models.sh gemma3)
minilm=$(scripts/models.sh minilm)

# The libraries of scripts/real/requirements.txt, in an environment of their own; "complete" holds what it was made from.
make_oracles() {
    local directory=${XDG_CACHE_HOME:-$HOME/.cache}/ragweave/oracles
    if ! cmp -s scripts/real/requirements.txt "$directory/complete"; then
        python3 -m venv "$directory" >&2
        "$directory/bin/python" -m pip install --disable-pip-version-check -r scripts/real/requirements.txt >&2
        cp scripts/real/requirements.txt "$directory/complete"
    fi
    echo "$directory/bin/python"
}
oracle=$(make_oracles)

headline "build"
cargo build --release --locked -p ragweave-server -p ragweave-eval
bin=${CARGO_TARGET_DIR:-target}/release
common=(--data "$work/store" --model "$smollm2" --embedder "$minilm")

# Starts the server on the demo's corpus and sets $address.
serve_demo() {
    "$bin/ragweave" ingest demo/real/corpus "${common[@]}" || return
    mkfifo "$work/stdout"
    "$bin/ragweave" serve --listen 127.0.0.1:0 "${common[@]}" >"$work/stdout" 2>"$work/serve.log" &
    server_pid=$!
    exec {server_output}<"$work/stdout"
    local listening
    if ! read -r -t 300 listening <&"$server_output"; then
        cat "$work/serve.log" >&2
        return 1
    fi
    echo "$listening"
    address=$(grep -oE 'http://[^ ]+' <<<"$listening")
}

demo_questions() {
    serve_demo || return
    "$oracle" scripts/real/check_demo.py --ragweave "$bin/ragweave" --addr "$address"
}

part "models.sh" scripts/real/check_models_sh.sh
part "damaged files" "$oracle" scripts/real/check_bad_files.py --ragweave-eval "$bin/ragweave-eval" --gguf "$smollm2" --embedder "$minilm"
part "SmolLM2: logits and token ids equal those of transformers" "$oracle" scripts/real/parity.py "$smollm2" "$bin/ragweave-eval"
part "Gemma 3: logits and token ids equal those of transformers" "$oracle" scripts/real/parity.py "$gemma3" "$bin/ragweave-eval" --lengths 12 700 1400
part "MiniLM: vectors equal those of sentence-transformers" "$oracle" scripts/real/embed_parity.py --dir "$minilm" --ragweave "$bin/ragweave-eval"
part "the demo's questions" demo_questions

headline "summary"
printf '%s\n' "${verdicts[@]}"
printf '%s passed, %s failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
