#!/usr/bin/env bash
# The kernels' tests on 64-bit ARM, emulated where this is another machine: every test of rlx-cpu, or of the packages given as
# `-p NAME`. Slow (several minutes), and says nothing of speed.
#
#     bash scripts/test-aarch64.sh [-p PACKAGE...]
#
# Needs (Debian's names) gcc-aarch64-linux-gnu and qemu-user-static, and a toolchain of rustup's.
set -euo pipefail
cd "$(dirname "$0")/.."

target=aarch64-unknown-linux-gnu
if [[ $(uname -m) != aarch64 ]]; then
    for tool in aarch64-linux-gnu-gcc qemu-aarch64-static; do
        if ! command -v "$tool" >/dev/null; then
            echo "$tool is missing: install gcc-aarch64-linux-gnu and qemu-user-static" >&2
            exit 1
        fi
    done
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
    # All features of the architecture: the dot-product instructions choose `neon`.
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64-static -cpu max -L /usr/aarch64-linux-gnu"
fi
rustup target add "$target"
if (($# == 0)); then
    set -- -p rlx-cpu
fi
cargo test --release --no-fail-fast --target "$target" "$@"
