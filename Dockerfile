# Hangarlake's command line, with what the demo and a Dask cluster need. Not root, no compiler, no package caches.
#
#   docker build --tag hangarlake:local .
#   docker run --rm hangarlake:local demo

FROM python:3.13.9-slim-bookworm AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/hangarlake
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY hangarlake ./hangarlake
RUN /opt/hangarlake/bin/pip install ".[demo,dask]"


FROM python:3.13.9-slim-bookworm

RUN useradd --uid 10001 --home-dir /var/lib/hangarlake --create-home --shell /usr/sbin/nologin hangarlake
COPY --from=build /opt/hangarlake /opt/hangarlake
COPY docker /opt/hangarlake/share
ENV PATH=/opt/hangarlake/bin:$PATH PYTHONUNBUFFERED=1
USER 10001
WORKDIR /var/lib/hangarlake
ENTRYPOINT ["hangarlake"]
CMD ["--help"]
