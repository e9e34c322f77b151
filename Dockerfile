# The server and the models in the box. See docs/deployment.md.

FROM python:3.11-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /source
RUN python -m venv --without-pip /opt/unmask

# torch comes from an index of its own: for CPUs by default, for a GPU another one of PyTorch's, or
# none at all (TORCH_INDEX=), which takes PyPI's build. It comes alone, so that nothing else does.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY constraints.txt ./
RUN grep '^torch==' constraints.txt > torch.txt \
    && pip --python /opt/unmask/bin/python install --no-deps -r torch.txt \
        ${TORCH_INDEX:+--index-url "$TORCH_INDEX"}

# What the code needs, before the code, which changes more often. Nothing is compiled in the image
# and nothing tested, so headers, tests and test programs of libraries stay behind.
ARG EXTRAS=server,postgres,traces,checkpoints
COPY pyproject.toml README.md LICENSE ./
RUN install -D /dev/null unmask/__init__.py \
    && echo '__version__ = "0"' > unmask/__init__.py \
    && pip --python /opt/unmask/bin/python install ".[$EXTRAS]" -c constraints.txt \
    && pip --python /opt/unmask/bin/python uninstall --yes unmask \
    && find /opt/unmask -depth \( -name tests -o -name 'test_*' -o -name 'conftest.py' \
        -o -path '*/torch/include' -o -path '*/torch/test' -o -path '*/torch/bin/protoc*' \
        -o -path '*/torch/bin/*Test' \) -not -path '*/torch/testing/*' -exec rm -r {} +

COPY unmask unmask
RUN pip --python /opt/unmask/bin/python install --no-deps --target /opt/code .


FROM python:3.11-slim
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Unmask" \
      org.opencontainers.image.description="Masked generative image synthesis as a service" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"

# The server writes to /data (keys, jobs), to /models (what it fetches from a hub) and to /tmp (large
# uploads): all else may be read-only.
RUN useradd --uid 10001 --no-create-home --home-dir /tmp unmask \
    && install --directory --owner unmask --group unmask /data /models
ENV PATH=/opt/code/bin:/opt/unmask/bin:$PATH \
    PYTHONPATH=/opt/code \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HF_HOME=/models \
    HF_HUB_DISABLE_TELEMETRY=1 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    UNMASK_HOST=0.0.0.0 \
    UNMASK_STATE_DIR=/data
COPY --from=build /opt/unmask /opt/unmask
COPY --from=build /opt/code /opt/code

USER 10001:10001
WORKDIR /data
VOLUME ["/data", "/models"]
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s CMD \
    ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ.get('UNMASK_PORT', '8000') + '/readyz', timeout=4)"]
ENTRYPOINT ["unmask"]
CMD ["serve"]
