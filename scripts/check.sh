#!/usr/bin/env bash
# Everything a change must pass, cheapest first: format, tidy rules, circles, lints, then all tests (scripts/test.sh).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

headline() { printf '\n== %s\n' "$*"; }
fail() { printf 'check: %s\n' "$*" >&2; exit 1; }

headline "format"
cargo fmt --all --check

headline "tidy"
mapfile -t sources < <(git ls-files '*.rs')
for source in "${sources[@]}"; do
    # The first line states the purpose of the file.
    [[ "$(head -n 1 "$source")" == '//!'* ]] || fail "$source does not begin with a //! line"
    # A module's file stands beside its folder.
    [[ "$source" != */src/*mod.rs ]] || fail "$source: write name.rs beside name/ instead of name/mod.rs"
done
# Every test runs and states what it expects, and there is no unfinished code.
if grep -nE '#\[(ignore|should_panic)|\b(todo|unimplemented)!\(' "${sources[@]}"; then
    fail "the lines above contain #[ignore], #[should_panic], todo! or unimplemented!"
fi
echo "${#sources[@]} files are tidy"
python3 scripts/circles.py

headline "lints"
cargo clippy --workspace --all-targets --release --locked -- -D warnings

headline "tests"
exec scripts/test.sh "$@"
