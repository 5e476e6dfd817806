#!/usr/bin/env bash
# Shows ragweave at work: fetches a small pretrained model and embedder, builds the server, ingests real text, serves it,
# asks three questions over gRPC, and compares full prefill, plain reuse and fusion. Needs no GPU and no account. With
# --offline, or if the models cannot be fetched, it shows the same with the tiny model that the repository has.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
    cat <<'USAGE'
usage: scripts/demo.sh [--offline] [--dir DIR] [--bench]
  --offline    fetch no model; use the tiny demo model and the fictional corpus of the repository
  --dir DIR    where the demo keeps its store and log (default: data/demo); replaced on each run
  --bench      also build ragweave-eval and measure time on a larger model of random weights (takes minutes)
  --no-bench   the default
Without --offline it fetches 177 MB: SmolLM2-135M-Instruct and all-MiniLM-L6-v2, by scripts/models.sh.
USAGE
}

dir=data/demo
bench=no
offline=no
while [ $# -gt 0 ]; do
    case "$1" in
        --dir) dir=${2:?--dir needs a directory}; shift 2 ;;
        --offline) offline=yes; shift ;;
        --bench) bench=yes; shift ;;
        --no-bench) bench=no; shift ;;
        -h | --help) usage; exit 0 ;;
        *) echo "demo: unknown argument: $1" >&2; usage >&2; exit 2 ;;
    esac
done

start_limit_s=300

headline() { printf '\n== %s\n' "$*"; }
fail() { printf 'demo: %s\n' "$*" >&2; exit 1; }
# Prints a command, then runs it.
show() {
    local line='$' word
    for word in "$@"; do
        if [[ "$word" == *' '* ]]; then line+=" \"$word\""; else line+=" $word"; fi
    done
    printf '%s\n' "$line"
    "$@"
}

# The demo shows the defaults, not the settings of the caller.
for variable in "${!RAGWEAVE_@}"; do unset "$variable"; done

# Only the files of an earlier demo are removed, and only if its mark is there.
claim_dir() {
    local mark=$dir/.made-by-ragweave-demo
    if [ -e "$mark" ]; then
        rm -rf "$dir/store" "$dir/serve.log"
    elif [ -d "$dir" ] && [ -n "$(ls -A "$dir")" ]; then
        fail "$dir contains files that are not from this demo; choose another place with --dir"
    fi
    mkdir -p "$dir"
    : >"$mark"
}

# Sets what the rest works on: pretrained models and real text, or the repository's own.
choose_models() {
    if [ "$offline" = no ]; then
        echo "SmolLM2-135M-Instruct (93 MB) answers, all-MiniLM-L6-v2 (84 MB) finds the passages; both are Apache-2.0."
        if model=$(scripts/models.sh smollm2) && embedder=$(scripts/models.sh minilm); then
            corpus=demo/real/corpus
            questions=demo/real/questions.jsonl
            common=(--data "$dir/store" --model "$model" --embedder "$embedder")
            return
        fi
        echo "The models could not be fetched; the reason is above. The demo goes on without them, as with --offline."
        offline=yes
    fi
    echo "This is the offline demo: a model of 0.8 M parameters, trained on the fictional world it is asked about. It shows"
    echo "how ragweave works, not how well: run scripts/demo.sh without --offline for pretrained models and real text."
    corpus=demo/corpus
    questions=demo/questions.jsonl
    common=(--data "$dir/store" --model demo/model)
}

# The questions to ask, one per line: all of the real ones, one of the demo model's.
list_questions() {
    local chosen='1,$'
    [ "$offline" = no ] || chosen=4
    sed -n "${chosen}p" "$questions" | sed 's/.*"question": "\([^"]*\)".*/\1/'
}

start_server() {
    # A fifo, not a coprocess: bash drops the variables of a coprocess that has ended, so its log could not be shown.
    local output=$dir/serve.stdout listening
    rm -f "$output"
    mkfifo "$output"
    "$bin/ragweave" serve --listen 127.0.0.1:0 "${common[@]}" >"$output" 2>"$dir/serve.log" &
    server_pid=$!
    trap stop_server EXIT
    # When it is ready, the server prints one line with its address on standard output; end of file means that it has ended.
    exec {server_output}<"$output"
    rm "$output"
    if ! read -r -t "$start_limit_s" listening <&"$server_output"; then
        cat "$dir/serve.log" >&2
        fail "the server ended or was not ready within $start_limit_s s; its log is above"
    fi
    echo "$listening"
    address=$(grep -oE 'http://[^ ]+' <<<"$listening")
}

stop_server() {
    trap - EXIT
    kill -TERM "$server_pid" 2>/dev/null || return 0
    wait "$server_pid" 2>/dev/null || true
}

headline "1. What the build needs"
if [ "$offline" = yes ]; then
    scripts/bootstrap.sh
else
    scripts/bootstrap.sh --models || fail "something is missing, see above; without pip, scripts/demo.sh --offline still works"
fi
claim_dir

headline "2. The models"
choose_models

headline "3. Build the server (minutes the first time, seconds after that)"
show cargo build --release --locked -p ragweave-server
bin=${CARGO_TARGET_DIR:-target}/release

headline "4. Ingest: split the documents, index them, run each chunk through the model once and keep its KV"
# Without its lines about single documents.
show "$bin/ragweave" ingest "$corpus" "${common[@]}" --dry-run | grep -vE ': [0-9]+ chunks, [0-9]+ tokens$'
[ "$offline" = yes ] || echo "Now the KV of about 75,000 tokens is computed and written once. On two cores this takes some minutes."
show "$bin/ragweave" ingest "$corpus" "${common[@]}"
show "$bin/ragweave" store stats --data "$dir/store"

headline "5. Serve over gRPC, on a free port of this machine"
start_server

headline "6. Ask: the answer streams, followed by its sources and by what was loaded and computed"
mapfile -t asked < <(list_questions)
# By default the server chooses the fastest mode. For the tiny model that may be full prefill, so fusion is asked for.
mode=()
[ "$offline" = no ] || mode=(--mode blend)
# A model of this size does not always end its answer.
limit=(--max-tokens 32)
for question in "${asked[@]}"; do
    show "$bin/ragweave" query "$question" --addr "$address" "${mode[@]}" "${limit[@]}"
    echo
done

headline "7. The same with full prefill, plain reuse of stored KV, fusion, and the mode that auto chooses"
for question in "${asked[@]}"; do
    show "$bin/ragweave" query "$question" --addr "$address" --compare --repeats 3 "${limit[@]}"
    echo
done
if [ "$offline" = yes ]; then
    cat <<'NOTE'
This table shows that plain reuse can give a wrong answer, that fusion repairs it, and how many tokens each mode
computes. It does not show how much time is saved: the demo model is so small that prefill takes almost no time.
NOTE
else
    cat <<'NOTE'
TTFT is the time to the first token of the answer. Three questions show the mechanism; they do not measure quality:
measure it on your own documents with ragweave-eval quality.
NOTE
fi
stop_server

if [ "$bench" = yes ]; then
    headline "8. Time saved on a larger model: the shape of SmolLM2-135M, random weights, 6 chunks of 512 tokens (takes minutes)"
    show cargo build --release --locked -p ragweave-eval
    show "$bin/ragweave-eval" bench --random-weights eval/configs/smollm2-135m.json --repeats 3
fi

headline "Done"
cat <<NEXT
The store is $dir/store, the server's log $dir/serve.log. Next:
  your own documents   $bin/ragweave ingest DOCUMENTS --data data/mine --model MODEL
  your own model       MODEL is a Hugging Face directory or a GGUF file of the Llama, Mistral, Qwen2.5, Qwen3 or Gemma 3 family
  your own embedder    --embedder DIR: a sentence-transformers directory; without it passages are found by their words
  serve                $bin/ragweave serve --data data/mine --model MODEL
  ask                  $bin/ragweave query "..." --compare
  from Python          pip install grpcio grpcio-reflection, then python3 scripts/client.py "..."
  check a setup        $bin/ragweave doctor --data data/mine --model MODEL
More is in README.md and docs/operations.md.
NEXT
