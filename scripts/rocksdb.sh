#!/usr/bin/env bash
# Compiles RocksDB once into the cache, and prints the variables that make every cargo build link it:
#   eval "$(scripts/rocksdb.sh)"
# Without them each new target directory compiles RocksDB's 340 files one by one, and most of that time goes into
# reading the same headers again. Here a compiler run takes a group of files, as RocksDB's own `make unity_test` does.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

files_per_run=12

fail() { printf 'rocksdb: %s\n' "$*" >&2; exit 1; }
print_variables() { printf 'export ROCKSDB_LIB_DIR=%q ROCKSDB_STATIC=%q\n' "$1" "$2"; }

case "${1:-}" in
    '') ;;
    -h | --help) echo 'usage: eval "$(scripts/rocksdb.sh)"'; exit 0 ;;
    *) fail "unknown argument: $1; usage: eval \"\$(scripts/rocksdb.sh)\"" ;;
esac

# A library that the caller has chosen stays chosen.
if [ -n "${ROCKSDB_LIB_DIR:-}" ]; then
    print_variables "$ROCKSDB_LIB_DIR" "${ROCKSDB_STATIC:-}"
    exit 0
fi

compiler=${CXX:-c++}
command -v "$compiler" >/dev/null || fail "the C++ compiler $compiler is missing; scripts/bootstrap.sh installs one"

# The flags of librocksdb-sys' own build script. -O2, as RocksDB's makefile has it.
flags=(-O2 -std=c++20 -fPIC -ffunction-sections -fdata-sections -w -include cstdint -I rocksdb/include -I rocksdb -I .
    -DNDEBUG -DHAVE_ALIGNED_NEW -DHAVE_UINT128_EXTENSION -DOS_LINUX -DROCKSDB_PLATFORM_POSIX -DROCKSDB_LIB_IO_POSIX
    -DROCKSDB_SCHED_GETCPU_PRESENT -DROCKSDB_AUXV_GETAUXVAL_PRESENT -DROCKSDB_FALLOCATE_PRESENT
    -DROCKSDB_RANGESYNC_PRESENT)
[ "$(uname -m)" != x86_64 ] || flags+=(-msse2)

version=$(sed -n '/^name = "librocksdb-sys"$/{n;s/^version = "\(.*\)"$/\1/p}' Cargo.lock)
key=$({ echo "$version ${flags[*]} $files_per_run"; "$compiler" --version; uname -m; } | sha256sum | cut -c 1-12)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/ragweave/rocksdb
library=$cache/$version-$key
if [ -f "$library/librocksdb.a" ]; then
    print_variables "$library" 1
    exit 0
fi

mkdir -p "$cache"
# One process builds, others wait for its result.
exec {lock}>"$cache/lock"
flock "$lock"
if [ -f "$library/librocksdb.a" ]; then
    print_variables "$library" 1
    exit 0
fi

host=$(rustc -vV | sed -n 's/^host: //p')
manifest=$(cargo metadata --locked --format-version 1 --filter-platform "$host" |
    grep -oE '"[^"]*/librocksdb-sys-[^"/]*/Cargo\.toml"' | head -n 1 | tr -d '"') || true
[ -n "$manifest" ] || fail "cargo did not say where the sources of librocksdb-sys $version are"

work=$(mktemp -d "$cache/build.XXXXXX")
trap 'rm -rf "$work"' EXIT
# Left by a process that was killed.
find "$cache" -maxdepth 1 -name 'build.*' ! -path "$work" -exec rm -rf {} +
cd "$(dirname "$manifest")"

# Writes one file for each compiler run, which includes its group of RocksDB's files.
write_groups() {
    grep -v '^util/build_version\.cc$' rocksdb_lib_sources.txt |
        split --lines="$files_per_run" --numeric-suffixes --suffix-length=3 --additional-suffix=.list - "$work/group"
    local list
    for list in "$work"/*.list; do
        sed 's|.*|#include "rocksdb/&"|' "$list" >"${list%.list}.cc"
    done
    cp build_version.cc "$work/version.cc"
}

compile() {
    "$compiler" "${flags[@]}" -c "$1" -o "${1%.cc}.o"
    printf '\r  RocksDB %s: %s of %s groups of files' "$version" "$(compgen -G "$work/*.o" | wc -l)" "$groups" >&2
}

write_groups
groups=$(compgen -G "$work/*.cc" | wc -l)
export -f compile
export compiler work groups version
# An array cannot be exported.
export flags_text=${flags[*]}
printf '%s\0' "$work"/*.cc | xargs -0 -n 1 -P "$(nproc)" bash -c 'read -ra flags <<<"$flags_text"; compile "$1"' bash ||
    fail "RocksDB $version could not be compiled; the lines above say why"
echo >&2
ar crs "$work/librocksdb.a" "$work"/*.o
rm -f "$work"/*.o "$work"/*.cc "$work"/*.list
mv -T "$work" "$library"
trap - EXIT
print_variables "$library" 1
