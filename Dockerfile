# The binary is built on the host (`just image`), statically linked, and staged in `image/`.
# Nothing else is in the final image: no shell, no libc, no package manager.
FROM scratch AS revenant
COPY --chown=65532:65532 image/app/ /app/
COPY image/revenant /revenant
COPY image/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
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
