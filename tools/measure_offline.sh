#!/usr/bin/env bash
# Measure on an offline GPU node: unpack the bundle of tools/make_offline_bundle.py and run Snakemake from it.
# Usage: tools/measure_offline.sh BUNDLE GPU [SNAKEMAKE OPTION ...]
set -euo pipefail
bundle=$1 gpu=$2
shift 2
cd "$(dirname "$0")/.."
site=${TMPDIR:-/tmp}/deepgap-node
mkdir -p "$site"
tar -xJf "$bundle" -C "$site"
export PYTHONPATH="$PWD/src:$site/site${PYTHONPATH:+:$PYTHONPATH}"
exec python3 -m snakemake --cores 1 cells "$@" --config "gpu=$gpu"
