# Tympan as a container image.
#
#   docker build -t tympan .                              CPU
#   docker build -t tympan:cuda --target cuda .           NVIDIA GPUs (needs the NVIDIA container toolkit to run)
#   docker build -t tympan --build-arg BAKE_MODEL=base .  with a model inside, for machines without a network
#
# Every package is checked against the hashes in requirements/. Name the base image by digest for builds that can be
# repeated to the byte: --build-arg PYTHON_IMAGE=python@sha256:...

ARG PYTHON_IMAGE=python:3.11-slim-bookworm

# --- What is installed: a virtual environment, built where compilers and caches may lie about.
FROM ${PYTHON_IMAGE} AS environment
WORKDIR /build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1
RUN ["python", "-m", "venv", "/opt/tympan"]
COPY requirements/runtime.txt requirements/cluster.txt requirements/
RUN ["/opt/tympan/bin/python", "-m", "pip", "install", "--require-hashes", "-r", "requirements/runtime.txt", "-r", "requirements/cluster.txt"]
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN ["/opt/tympan/bin/python", "-m", "pip", "install", "--no-deps", "--no-build-isolation", "."]

# --- The same with what models on a GPU need: cuBLAS and cuDNN 9 as wheels; the driver comes from the host.
FROM environment AS environment-cuda
COPY requirements/cuda.txt requirements/
RUN ["/opt/tympan/bin/python", "-m", "pip", "install", "--require-hashes", "-r", "requirements/cuda.txt"]

# --- What every image has.
FROM ${PYTHON_IMAGE} AS base
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Tympan" \
      org.opencontainers.image.description="A production speech-to-text server: open models, an OpenAI-compatible API." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# Fixed numbers, so that volumes and Kubernetes' runAsUser can name them.
RUN groupadd --system --gid 10001 tympan \
    && useradd --system --uid 10001 --gid 10001 --home-dir /data --no-create-home --shell /usr/sbin/nologin tympan \
    && install -d -o 10001 -g 10001 -m 0750 /data
# Only /data and /tmp are written to: run it with --read-only --tmpfs /tmp.
# An address that others reach needs a key before the server starts: run `keys create` on the same /data first. With
# -e TYMPAN_API_KEYS=open whoever reaches the port may use it: publish it on loopback then (-p 127.0.0.1:8000:8000).
ENV PATH=/opt/tympan/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TYMPAN_DATA_DIR=/data \
    TYMPAN_HOST=0.0.0.0 \
    TYMPAN_PORT=8000 \
    TYMPAN_LOG_FORMAT=json
WORKDIR /data
EXPOSE 8000
STOPSIGNAL SIGTERM
# The first start may fetch a model; a worker answers when it is there.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m --start-interval=2s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as web; web.urlopen('http://127.0.0.1:' + os.environ.get('TYMPAN_PORT', '8000') + '/livez', timeout=4)"]
ENTRYPOINT ["tympan"]
CMD ["serve"]

# --- NVIDIA GPUs.
FROM base AS cuda
COPY --from=environment-cuda /opt/tympan /opt/tympan
# CTranslate2 looks for the CUDA libraries by name; the wheels keep them here.
ENV LD_LIBRARY_PATH=/opt/tympan/lib/python3.11/site-packages/nvidia/cublas/lib:/opt/tympan/lib/python3.11/site-packages/nvidia/cudnn/lib:/opt/tympan/lib/python3.11/site-packages/nvidia/cuda_nvrtc/lib \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
ARG BAKE_MODEL=
USER 10001:10001
RUN for name in ${BAKE_MODEL}; do tympan models pull "${name}" --data-dir /data || exit 1; done

# --- CPU; last, because `docker build` takes the last one unless told otherwise.
FROM base AS cpu
COPY --from=environment /opt/tympan /opt/tympan
ARG BAKE_MODEL=
USER 10001:10001
# A new named volume on /data starts with what the image has there; a bind mount or emptyDir starts empty.
RUN for name in ${BAKE_MODEL}; do tympan models pull "${name}" --data-dir /data || exit 1; done
