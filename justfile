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

# Durable appends, write-to-edge and demo throughput, next to this machine's floor.
bench *ARGS:
    cargo run -- bench {{ARGS}}

# Stage the static binary and build the images.
image:
    cargo run -- image

# The compose stack with an embedded database image, wherever a Docker engine answers.
compose-test *ARGS:
    cargo run -- compose-test {{ARGS}}
