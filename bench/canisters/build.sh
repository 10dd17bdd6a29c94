#!/bin/sh
# Builds one canister of the benchmarks: build.sh NAME. Needs clang with lld (C), or npm's motoko (see examples/canisters).
set -eu
cd "$(dirname "$0")"
name=$1
if [ -f "$name.c" ]; then
  clang --target=wasm32 -O2 -nostdlib -fno-builtin -Wall -Werror -Wl,--no-entry -Wl,--strip-all -Wl,-z,stack-size=65536 \
    -o "$name.wasm" "$name.c"
elif [ -f "$name.mo" ]; then
  node ../../examples/canisters/motoko/compile.js "$name.mo" "$name.wasm"
else
  echo "no source for $name: expected $name.{c,mo}" >&2
  exit 2
fi
