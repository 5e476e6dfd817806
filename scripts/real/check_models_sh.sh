#!/usr/bin/env bash
# Checks scripts/models.sh on MiniLM, in a cache of its own: the path is the only line on standard output, a damaged
# entry is fetched again, a killed download leaves nothing behind, concurrent calls agree, and errors are clear.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export XDG_CACHE_HOME=$work/cache
cache=$XDG_CACHE_HOME/ragweave/models
weights=$cache/minilm/all-MiniLM-L6-v2/model.safetensors

fail() { printf 'check_models_sh: %s\n' "$*" >&2; exit 1; }
ok() { printf 'ok      %s\n' "$*"; }

# Runs models.sh with the arguments after the first, which must fail and say what the first is.
refuses() {
    local expected=$1
    shift
    if "$@" >"$work/out" 2>"$work/err"; then fail "$* succeeded"; fi
    [ ! -s "$work/out" ] || fail "$* failed, but printed $(cat "$work/out")"
    grep -q -- "$expected" "$work/err" || fail "$* does not say '$expected': $(cat "$work/err")"
}

# Nothing but complete models and lock files is in the cache.
no_leftovers() {
    local left
    left=$(find "$cache" -maxdepth 1 -name '.*.fetch.*')
    [ -z "$left" ] || fail "left behind: $left"
}

refuses 'not in .*, or is damaged' scripts/models.sh minilm --offline
refuses 'unknown model' scripts/models.sh gpt5
printf '#!/bin/sh\nexit 1\n' >"$work/python-without-pip"
chmod +x "$work/python-without-pip"
refuses 'has no pip' env PYTHON="$work/python-without-pip" scripts/models.sh minilm
ok "errors: offline, unknown model, no pip"

# Nothing listens on port 1 of this machine. PIP_FIND_LINKS could bring the package from elsewhere.
refuses 'could not be fetched' env PIP_INDEX_URL=http://127.0.0.1:1/ PIP_EXTRA_INDEX_URL= PIP_FIND_LINKS= PIP_NO_INDEX=0 scripts/models.sh minilm
no_leftovers
ok "errors: no registry"

scripts/models.sh minilm >"$work/one" &
scripts/models.sh minilm >"$work/two"
wait $!
cmp -s "$work/one" "$work/two" || fail "concurrent calls print different paths"
[ "$(wc -l <"$work/one")" = 1 ] && [ -d "$(cat "$work/one")" ] || fail "not one line with a directory: $(cat "$work/one")"
no_leftovers
ok "two calls at once fetch one model"

before=$(stat -c %Y.%i "$weights")
scripts/models.sh minilm --offline >/dev/null
scripts/models.sh minilm >/dev/null
[ "$(stat -c %Y.%i "$weights")" = "$before" ] || fail "a sound model was fetched again"
ok "a sound model is kept"

printf 'x' | dd of="$weights" bs=1 seek=1000000 conv=notrunc status=none
refuses 'or is damaged' scripts/models.sh minilm --offline
scripts/models.sh minilm >/dev/null
scripts/models.sh minilm --offline >/dev/null || fail "a damaged model was not repaired"
no_leftovers
ok "a damaged model is fetched again"

# Killed in the middle: what was there stays, and the next call cleans up.
rm "$weights"
setsid scripts/models.sh minilm >/dev/null 2>&1 &
killed=$!
for _ in $(seq 200); do
    if compgen -G "$cache/.minilm.fetch.*" >/dev/null; then break; fi
    sleep 0.05
done
kill -KILL -- "-$killed" 2>/dev/null || fail "the download was over before it could be killed"
wait "$killed" 2>/dev/null || true
[ ! -e "$weights" ] || fail "a killed download changed the model"
scripts/models.sh minilm >/dev/null
[ -f "$weights" ] || fail "the model was not fetched after a killed download"
no_leftovers
ok "a killed download leaves nothing half"
