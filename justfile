# Short names for the commands that CONTRIBUTING.md explains.

# Everything that CI runs.
ci:
    cargo xtask ci

# Format, lint, check the floors.
check:
    cargo fmt --all
    cargo clippy --workspace --all-targets -- -D warnings
    cargo xtask layers

# Tests; no network, no weights.
test *ARGS:
    cargo test --workspace {{ARGS}}

# Tests on published checkpoints (fetched into the user's cache).
real-weights *NAMES:
    cargo xtask real-weights {{NAMES}}

# Any command of rlx-run, e.g. `just run inspect model.gguf`.
run *ARGS:
    cargo run --release -p rlx-models --bin rlx-run -- {{ARGS}}

# Chat with the default model.
chat *ARGS:
    cargo run --release -p rlx-models --bin rlx-run -- chat {{ARGS}}

# The skeleton of a new model family.
new-model NAME:
    cargo xtask new-model {{NAME}}

# The generated parts of the documents.
docs:
    cargo xtask docs
