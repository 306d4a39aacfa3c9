# docker build -t dafx .
# docker run --rm -v "$PWD/build:/dafx/build" dafx             # the demo
# docker run --rm -it -v "$PWD:/data" dafx dafx_run --help
FROM debian:12-slim

WORKDIR /dafx

# First what scripts/setup reads, so that an edit elsewhere reuses this layer.
COPY setup.py pyproject.toml README.md LICENSE ./
COPY scripts scripts
COPY gin gin
COPY dafx/__init__.py dafx/
COPY dafx/lv2 dafx/lv2
RUN scripts/setup \
    && rm -rf build /root/.cache /var/lib/apt/lists/*

COPY . .
RUN scripts/setup

ENV PATH=/dafx/.venv/bin:$PATH
CMD ["make", "demo"]
