# Every recipe is one line of cargo; logic lives in Rust.

# What CI runs, and a little more.
check: fmt-check clippy doc deny test

fmt-check:
    cargo fmt --all -- --check

clippy:
    cargo clippy --workspace --all-targets -- -D warnings

doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

deny:
    cargo deny check

test *ARGS:
    cargo test --workspace {{ARGS}}

# The main job on the large history, with kills.
demo *ARGS:
    cargo run -- demo --data testdata/etcd-history.jsonl.zst --writers 16 {{ARGS}}

# Durable appends at 1 and 64 callers, next to the raw floor of the same run.
bench-log:
    cargo bench -p revenant-log --bench append
