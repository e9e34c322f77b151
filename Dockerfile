FROM python:3.11-slim

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1
WORKDIR /app

# Dependencies first: they change less often than the code, and this layer is the large one. For a
# machine without a GPU, TORCH_INDEX names PyTorch's index of CPU builds: they are far smaller.
ARG TORCH_INDEX
COPY constraints.txt .
RUN pip install "$(grep '^torch==' constraints.txt)" -c constraints.txt \
    ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"}

COPY pyproject.toml README.md LICENSE ./
COPY unmask unmask
RUN pip install '.[server,traces,checkpoints]' -c constraints.txt \
    && useradd --create-home --uid 10001 unmask

USER 10001
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s CMD \
    ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
CMD ["unmask", "serve", "--host", "0.0.0.0"]
