# syntax=docker/dockerfile:1

# Makes the two wheels. The tags name versions; whoever builds for production pins them by digest.
FROM rust:1.95-slim-bookworm AS build
# Debian's archive keeps one version of a package: a pinned one stops the build one day.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY requirements/build.txt requirements/
RUN python3 -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir --require-hashes -r requirements/build.txt
COPY clients/python clients/python
RUN /opt/build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation \
        --wheel-dir /wheels clients/python
COPY Cargo.lock Cargo.toml LICENSE README.md pyproject.toml ./
COPY rust_core rust_core
COPY service service
# The caches belong to the builder: a change of Python compiles no Rust again.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    /opt/build/bin/maturin build --locked --release --auditwheel check \
        --interpreter python3 --out /wheels

# Installs them, and what they need by its hash, into a folder without pip.
FROM python:3.13-slim-bookworm AS install
WORKDIR /install
COPY requirements/runtime.txt requirements/
RUN python -m venv --without-pip /opt/watchword \
    && pip --python /opt/watchword/bin/python install --no-cache-dir \
        --only-binary :all: --require-hashes -r requirements/runtime.txt
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip --python /opt/watchword/bin/python install --no-cache-dir --no-index --no-deps \
        /wheels/*.whl \
    && pip --python /opt/watchword/bin/python check

FROM python:3.13-slim-bookworm
LABEL org.opencontainers.image.title="Watchword" \
    org.opencontainers.image.description="Authentication service: one-time codes by e-mail" \
    org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --system --uid 10001 --user-group --home-dir / --no-create-home \
        --shell /usr/sbin/nologin watchword
COPY --from=install /opt/watchword /opt/watchword
ENV PATH="/opt/watchword/bin:$PATH"
# By number, so that Kubernetes can see that it is not root.
USER 10001:10001
EXPOSE 50051
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s CMD ["watchword", "healthcheck"]
ENTRYPOINT ["watchword"]
CMD ["serve"]
