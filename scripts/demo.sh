#!/usr/bin/env bash
# Shows ragweave at work with nothing but this checkout: builds it, ingests the demo corpus, serves it, asks a question
# over gRPC, and measures full prefill, plain reuse and fusion side by side. No GPU, no download of a model, no account.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
    cat <<'USAGE'
usage: scripts/demo.sh [--dir DIR] [--no-bench]
  --dir DIR    where the demo keeps its store and log (default: data/demo); made anew on each run
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

# The demo shows the defaults, not the settings of whoever runs it.
for variable in "${!RAGWEAVE_@}"; do unset "$variable"; done

headline "1. What the build needs"
scripts/bootstrap.sh

headline "2. Build (minutes the first time, seconds after that)"
show cargo build --release --locked -p ragweave-server -p ragweave-eval
bin=${CARGO_TARGET_DIR:-target}/release

# Only what an earlier demo made is removed, and only where its mark says so.
mark=$dir/.made-by-ragweave-demo
if [ -e "$mark" ]; then
    rm -rf "$dir/store" "$dir/serve.log"
elif [ -d "$dir" ] && [ -n "$(ls -A "$dir")" ]; then
    fail "$dir holds something that is not from this demo; name another place with --dir"
fi
mkdir -p "$dir"
: >"$mark"

headline "3. Ingest: split the documents, index them, run each chunk through the model once and keep its KV"
show "$bin/ragweave" ingest demo/corpus --data "$dir/store" --model demo/model
show "$bin/ragweave" store stats --data "$dir/store"

headline "4. Serve over gRPC, on a free port of this machine"
# A fifo and not a coprocess: of a coprocess that has died bash forgets the variables, and the log would not be shown.
says=$dir/serve.says
rm -f "$says"
mkfifo "$says"
"$bin/ragweave" serve --listen 127.0.0.1:0 --data "$dir/store" --model demo/model >"$says" 2>"$dir/serve.log" &
server_pid=$!
stop_server() {
    kill -TERM "$server_pid" 2>/dev/null || return 0
    wait "$server_pid" 2>/dev/null || true
}
trap stop_server EXIT
# The server's one line on standard output says where it listens, once it is ready; end of file says that it died.
exec {server_says}<"$says"
rm "$says"
if ! read -r -t "$start_limit_s" listening <&"$server_says"; then
    cat "$dir/serve.log" >&2
    fail "the server ended, or was not ready within $start_limit_s s; its log is above"
fi
echo "$listening"
address=$(grep -oE 'http://[^ ]+' <<<"$listening")

headline "5. Ask: the answer streams; below it where it came from, what was loaded and what was computed"
# By default the server takes whatever is faster, which for so small a model may well be full prefill.
show "$bin/ragweave" query "$question" --addr "$address" --mode blend

headline "6. The same question with full prefill, plain reuse of stored KV, fusion, and what auto takes for the fastest"
show "$bin/ragweave" query "$question" --addr "$address" --compare
cat <<'NOTE'
The demo model is tiny: what this table shows is that plain reuse can answer wrongly, that fusion repairs it, and how
many tokens each mode computes. With so small a model prefill is nearly free, so it says nothing about time saved.
NOTE

stop_server
trap - EXIT

if [ "$bench" = yes ]; then
    headline "7. Where time shows: the shape of SmolLM2-135M with random weights, 6 chunks of 512 tokens (takes minutes)"
    show "$bin/ragweave-eval" bench --random-weights eval/configs/smollm2-135m.json --repeats 3
fi

headline "Done"
cat <<NEXT
The store is $dir/store, the server's log $dir/serve.log. Next:
  your own documents   $bin/ragweave ingest DOCUMENTS --data data/mine --model MODEL
  your own model       MODEL is any Hugging Face directory of the Llama or Qwen3 family
  serve                $bin/ragweave serve --data data/mine --model MODEL
  ask                  $bin/ragweave query "..." --compare
  from Python          pip install grpcio grpcio-reflection, then python3 scripts/client.py "..."
  check a setup        $bin/ragweave doctor --data data/mine --model MODEL
README.md and docs/operations.md say more.
NEXT
