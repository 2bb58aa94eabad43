# Images for CPUs and for NVIDIA GPUs (docs/docker.md has the commands that start them):
#   docker build -t avsc_jax .
#   docker build -t avsc_jax:cuda --target cuda .
# pip brings CUDA's libraries, so both begin with the same image; the host has the driver.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS wheel
WORKDIR /tree
COPY . .
RUN python -m pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:${PYTHON}-slim AS base
ENV PYTHONUNBUFFERED=1 \
    TFDS_DATA_DIR=/data/tfds
# the folder of downloaded weights and of compiled programs is made here, so that a volume is the user's
RUN useradd --create-home --uid 1000 avsc \
    && mkdir -p /data /home/avsc/.cache \
    && chown avsc:avsc /data /home/avsc/.cache
COPY --from=wheel /wheels /wheels
WORKDIR /data

FROM base AS cuda
RUN python -m pip install --no-cache-dir "$(echo /wheels/*.whl)[web,cuda13]"
USER 1000
VOLUME ["/home/avsc/.cache", "/data"]
CMD ["avsc-predict", "--help"]

# the last one is made where no target is named
FROM base AS cpu
RUN python -m pip install --no-cache-dir "$(echo /wheels/*.whl)[web]"
USER 1000
VOLUME ["/home/avsc/.cache", "/data"]
CMD ["avsc-predict", "--help"]
