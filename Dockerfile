# A GPU node with all that `make` needs; see docs/cloud.md. The host brings the driver, r580 or later.
FROM nvidia/cuda:13.0.2-base-ubuntu24.04

# Triton and torch.compile call a C++ compiler while a cell runs. Ubuntu keeps no old versions to pin.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ make python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /deep-gap
COPY . .
RUN make setup

CMD ["make"]
