# The binary is built on the host, statically linked, and staged in `image/` with its symbols stripped:
#   cargo build --workspace --bin revenant
#   mkdir -p image/app/data && strip -o image/revenant target/*/debug/revenant
#   cp /etc/ssl/certs/ca-certificates.crt image/
#   docker build --target revenant -t revenant:local .
# `just image` does that.
# Beside it there are the authorities that TLS trusts, for `wss://` databases, and nothing else: no shell,
# no libc, no package manager.
FROM scratch AS revenant
COPY image/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --chown=65532:65532 image/app/ /app/
COPY image/revenant /revenant
WORKDIR /app
USER 65532:65532
VOLUME ["/app/data"]
STOPSIGNAL SIGTERM
LABEL org.opencontainers.image.title="Revenant" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
ENTRYPOINT ["/revenant"]

# For tests only: SurrealDB's own server, as embedded in the same binary.
FROM scratch AS surrealdb-test
# Without authorities to trust the server does not start.
COPY image/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --chown=65532:65532 image/app/data/ /data/
COPY image/revenant /revenant
USER 65532:65532
VOLUME ["/data"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/revenant", "surrealdb"]
