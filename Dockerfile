# The binary is built on the host, statically linked, and staged in `image/`:
#   cargo build -p revenant && mkdir -p image/app/data && cp target/*/debug/revenant image/
#   docker build --target revenant -t revenant:local .
# Nothing else is in the final image: no shell, no libc, no package manager.
FROM scratch AS revenant
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
COPY --chown=65532:65532 image/app/data/ /data/
COPY image/revenant /revenant
USER 65532:65532
VOLUME ["/data"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/revenant", "surrealdb"]
