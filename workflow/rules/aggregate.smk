# From cells to the tidy tables that every table and figure reads.
from dataclasses import asdict

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

# A cell can be there without its samples; one that is measured now gets them.
SAMPLES = [
    file
    for cell in present
    if Path(file := f"results/{cell.gpu}/telemetry/{cell.stem}.parquet").is_file()
] + [
    f"results/{cell.gpu}/telemetry/{cell.stem}.parquet"
    for cell in to_measure.values()
    if study.gpus[cell.gpu].device == "cuda"
]


rule aggregate:
    input:
        cells=[cell.path for cell in present]
        + [cell.path for cell in to_measure.values()],
        samples=SAMPLES,
        published_csv="data/published/deep_gap.csv",
        gpus=GPUS_FILE,
        schema=GPUS_SCHEMA,
    output:
        **SUMMARY,
    log:
        "logs/aggregate.log",
    conda:
        "../../envs/paper.yaml"
    threads: 8
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
        fidelity_floor=study.config["reporting"]["fidelity_floor"],
        code=code_digest(
            "deepgap.aggregate",
            "deepgap.published",
            script="workflow/scripts/aggregate_cells.py",
        ),
    message:
        "Aggregate the cells of all GPUs."
    script:
        "../scripts/aggregate_cells.py"
