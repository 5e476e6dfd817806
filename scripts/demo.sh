#!/usr/bin/env bash
# Shows ragweave at work with nothing but this checkout: builds it, ingests the demo corpus, serves it, asks a question
# over gRPC, and compares full prefill, plain reuse and fusion. Needs no GPU, no model download and no account.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
    cat <<'USAGE'
usage: scripts/demo.sh [--dir DIR] [--no-bench]
  --dir DIR    where the demo keeps its store and log (default: data/demo); replaced on each run
  --no-bench   leave out the time measurement on a larger model of random weights
USAGE
}

dir=data/demo
bench=yes
while [ $# -gt 0 ]; do
    case "$1" in
        --dir) dir=${2:?--dir needs a directory}; shift 2 ;;
        --no-bench) bench=no; shift ;;
        -h | --help) usage; exit 0 ;;
        *) echo "demo: unknown argument: $1" >&2; usage >&2; exit 2 ;;
    esac
done

question="In Olnland: Where is the clock?"
start_limit_s=120

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

headline "1. What the build needs"
scripts/bootstrap.sh

headline "2. Build (minutes the first time, seconds after that)"
show cargo build --release --locked -p ragweave-server -p ragweave-eval
bin=${CARGO_TARGET_DIR:-target}/release

# Only the files of an earlier demo are removed, and only if its mark is there.
mark=$dir/.made-by-ragweave-demo
if [ -e "$mark" ]; then
    rm -rf "$dir/store" "$dir/serve.log"
elif [ -d "$dir" ] && [ -n "$(ls -A "$dir")" ]; then
    fail "$dir contains files that are not from this demo; choose another place with --dir"
fi
mkdir -p "$dir"
: >"$mark"

headline "3. Ingest: split the documents, index them, run each chunk through the model once and keep its KV"
show "$bin/ragweave" ingest demo/corpus --data "$dir/store" --model demo/model
show "$bin/ragweave" store stats --data "$dir/store"

headline "4. Serve over gRPC, on a free port of this machine"
# A fifo, not a coprocess: bash drops the variables of a coprocess that has ended, so its log could not be shown.
output=$dir/serve.stdout
rm -f "$output"
mkfifo "$output"
"$bin/ragweave" serve --listen 127.0.0.1:0 --data "$dir/store" --model demo/model >"$output" 2>"$dir/serve.log" &
server_pid=$!
stop_server() {
    kill -TERM "$server_pid" 2>/dev/null || return 0
    wait "$server_pid" 2>/dev/null || true
}
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

headline "5. Ask: the answer streams, followed by its sources and by what was loaded and computed"
# By default the server chooses the fastest mode, which for such a small model may be full prefill.
show "$bin/ragweave" query "$question" --addr "$address" --mode blend

headline "6. The same question with full prefill, plain reuse of stored KV, fusion, and the mode that auto chooses"
show "$bin/ragweave" query "$question" --addr "$address" --compare
cat <<'NOTE'
This table shows that plain reuse can give a wrong answer, that fusion repairs it, and how many tokens each mode
computes. It does not show how much time is saved: the demo model is so small that prefill takes almost no time.
NOTE

stop_server
trap - EXIT

if [ "$bench" = yes ]; then
    headline "7. Time saved on a larger model: the shape of SmolLM2-135M, random weights, 6 chunks of 512 tokens (takes minutes)"
    show "$bin/ragweave-eval" bench --random-weights eval/configs/smollm2-135m.json --repeats 3
fi

headline "Done"
cat <<NEXT
The store is $dir/store, the server's log $dir/serve.log. Next:
  your own documents   $bin/ragweave ingest DOCUMENTS --data data/mine --model MODEL
  your own model       MODEL is a Hugging Face directory of the Llama, Mistral, Qwen2.5 or Qwen3 family
  serve                $bin/ragweave serve --data data/mine --model MODEL
  ask                  $bin/ragweave query "..." --compare
  from Python          pip install grpcio grpcio-reflection, then python3 scripts/client.py "..."
  check a setup        $bin/ragweave doctor --data data/mine --model MODEL
More is in README.md and docs/operations.md.
NEXT
