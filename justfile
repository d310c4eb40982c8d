# Recipes are cargo lines; logic lives in Rust.

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

# The log on a disk that crashes, rots and fails: once through, some minutes. CI runs it.
crash *ARGS:
    cargo run -q -p revenant-log --example crash -- {{ARGS}}

# The same on and on with new seeds: `just crash-full 8h`. A release asks for hours.
crash-full DURATION *ARGS:
    cargo run -q -p revenant-log --example crash -- --for {{DURATION}} {{ARGS}}

# A process that appends, killed and failed at every system call by strace, and cut off with its file system; what it
# acknowledged is checked by another. Says what was skipped and why; `--require strace` makes that a failure.
power *ARGS:
    cargo run -q -p revenant-log --example power -- {{ARGS}}

# Deliberate faults in a copy of the log, one at a time: which test catches each.
planted *ARGS:
    cargo run -q -p revenant-log --example planted -- {{ARGS}}

# Every decoder of the log on changed bytes, 10 million times. `log/fuzz` has cargo-fuzz targets for the same.
fuzz-smoke *ARGS:
    cargo run -q -p revenant-log --example fuzz_smoke -- {{ARGS}}

# The main job on the large history, with kills.
demo *ARGS:
    cargo run -- demo --data testdata/etcd-history.jsonl.zst --writers 16 {{ARGS}}

# Rebuilds of a log to many seqs and times, each compared with a model: of the large history, or `--log DIR` of the
# log that a demo left.
replay-points *ARGS="--history testdata/etcd-history.jsonl.zst":
    cargo run -- replay points {{ARGS}}

# Durable appends at 1 and 64 callers, next to the raw floor of the same run.
bench-log:
    cargo bench -p revenant-log --bench append

# What compressing sealed segments gives and costs, at four levels: of made-up rows, or of a copy of a log.
bench-log-compress *ARGS:
    cargo bench -p revenant-log --bench compress -- {{ARGS}}

# Our log next to surrealkv, raft-engine, fjall, redb, okaywal, spacetimedb-commitlog and, where installed, Redis,
# PostgreSQL and NATS. A quiet machine; `--lanes A1,C` for a part of it.
bench-log-peers *ARGS:
    cargo run -q --release --manifest-path log/benches/peers/Cargo.toml -- {{ARGS}}

# Records applied, a replica rebuilt and rows read, next to redb alone in the same run.
bench-replica:
    cargo bench -q -p revenant-replica --bench replica

# The replica next to SurrealDB's embedded engine, for the same upserts.
bench-replica-surrealdb:
    cargo bench -q --workspace --profile dev --bench upserts

# Live views at 10 to 1,000,000, checked by the naive evaluation; then what decides, next to differential-dataflow.
# `--quick` for two minutes instead of ten.
bench-views *ARGS:
    cargo bench -q -p revenant-ssp --bench views -- {{ARGS}}

# All measurements: a short table, then one line of JSON. Some minutes, and a quiet machine.
bench *ARGS:
    cargo build --workspace --bin revenant
    cargo bench -q -p revenant-log --bench append | \
        cargo run -q -- bench --appends - --data testdata/etcd-history.jsonl.zst {{ARGS}}

# The stripped binary, and both images made from it.
image:
    cargo build --workspace --bin revenant
    rm -rf image && mkdir -p image/app/data
    strip -o image/revenant "${CARGO_TARGET_DIR:-target}/$(rustc --print host-tuple)/debug/revenant"
    cp "${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}" image/ca-certificates.crt
    docker build --target revenant -t revenant:local .
    docker build --target surrealdb-test -t revenant-test/surrealdb:3.3.5 .

# The stack of compose.yaml, tried in containers. Says that it is skipped where no Docker engine answers.
compose-test *ARGS:
    if docker version >/dev/null 2>&1; then just image; fi
    cargo run -q -- compose-test {{ARGS}}

# Random views against the naive evaluation, counted by construct of the language. `--minutes N`, 10 unless told.
oracle *ARGS:
    cargo run -q -p revenant-ssp --example oracle -- {{ARGS}}

# Rules of the view engine broken on purpose, and which test notices each.
mutants-views:
    cargo run -q -p revenant-ssp --example mutants
