# From cells to the tidy tables that every table and figure reads: part by part, then all together.
import re
from dataclasses import asdict

from deepgap import parts

SUMMARY = {
    name: f"results/summary/{name}.parquet"
    for name in (
        "runs",
        "families",
        "published",
        "coverage",
        "hosts",
        "fidelity",
        "ratios",
        "overhead",
        "telemetry",
        "design",
    )
}

GROUPS = {}
for cell in [*present, *to_measure.values()]:
    samples = f"results/{cell.gpu}/telemetry/{cell.stem}.parquet"
    sampled = study.gpus[cell.gpu].device == "cuda"
    group = GROUPS.setdefault((cell.gpu, cell.model), {"cells": [], "samples": []})
    group["cells"].append(cell.path)
    # A cell can be there without its samples; one that is measured now gets them. Another site has it by the same name.
    measured_now = to_measure.get(cell.stem) is cell
    if sampled if measured_now else Path(samples).is_file():
        group["samples"].append(samples)


rule read_cells:
    input:
        cells=lambda wildcards: GROUPS[wildcards.gpu, wildcards.model]["cells"],
        samples=lambda wildcards: GROUPS[wildcards.gpu, wildcards.model]["samples"],
        gpus=GPUS_FILE,
        schema=GPUS_SCHEMA,
    output:
        **{
            f"read_{name}": f"build/summary/{{gpu}}/{{model}}/{name}.parquet"
            for name in parts.FRAMES
        },
    log:
        "logs/read_cells/{gpu}/{model}.log",
    wildcard_constraints:
        gpu="|".join(map(re.escape, study.gpus)),
        model="|".join(map(re.escape, study.config["models"])),
    conda:
        "../../envs/paper.yaml"
    params:
        fidelity_floor=study.config["reporting"]["fidelity_floor"],
        code=code_digest("deepgap.parts", script="workflow/scripts/read_cells.py"),
    message:
        "Read the cells of {wildcards.gpu} and {wildcards.model}."
    script:
        "../scripts/read_cells.py"


rule aggregate:
    input:
        parts=[
            f"build/summary/{gpu}/{model}/{name}.parquet"
            for gpu, model in GROUPS
            for name in parts.FRAMES
        ],
        published_csv="data/published/deep_gap.csv",
        gpus=GPUS_FILE,
        schema=GPUS_SCHEMA,
    output:
        **SUMMARY,
    log:
        "logs/aggregate.log",
    conda:
        "../../envs/paper.yaml"
    params:
        expected=study.expected_counts(),
        unlisted=study.unlisted_counts(Path("results")),
        axes={
            gpu: {
                **study.axes(gpu),
                "counts": asdict(study.protocol(gpu)),
                "sampled": profile.device == "cuda",
            }
            for gpu, profile in study.gpus.items()
        },
        code=code_digest(
            "deepgap.aggregate",
            "deepgap.parts",
            script="workflow/scripts/aggregate_cells.py",
        ),
    message:
        "Put the cells of all GPUs together."
    script:
        "../scripts/aggregate_cells.py"
