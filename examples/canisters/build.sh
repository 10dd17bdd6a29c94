#!/bin/sh
# Builds one example canister from source: build.sh NAME. Needs clang+lld (C), Debian's rustc with wasm32 (Rust), npm's motoko.
set -eu
cd "$(dirname "$0")"
name=$1
flags=
source=$name
[ "$name" = universal_heartbeat ] && source=universal flags=-DHEARTBEAT
if [ -f "$source/$source.c" ]; then
  clang --target=wasm32 -O2 -nostdlib -fno-builtin -mbulk-memory -Wall -Werror -Wl,--no-entry -Wl,--export-table \
    -Wl,--strip-all -Wl,-z,stack-size=65536 $flags -o "$name.wasm" "$source/$source.c"
elif [ -f "$name/$name.rs" ]; then
  "${RUSTC:-/usr/bin/rustc}" --edition 2021 --crate-type cdylib --target wasm32-unknown-unknown -C opt-level=2 -C panic=abort \
    -C strip=symbols -C link-arg=--export-table -o "$name.wasm" "$name/$name.rs"
elif [ -f "$name/$name.wat" ]; then
  "${PYTHON:-python3}" -c "import sys, wasmtime; open('$name.wasm', 'wb').write(wasmtime.wat2wasm(open('$name/$name.wat').read()))"
elif [ -f "$name/$name.mo" ]; then
  node motoko/compile.js "$name/$name.mo" "$name.wasm"
else
  echo "no source for $name: expected $name/$name.{c,rs,wat,mo}" >&2
  exit 2
fi
