# From cells to the tidy tables that every table and figure reads.

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
    )
}


rule aggregate:
    input:
        cells=[cell.path for cell in present]
        + [cell.path for cell in to_measure.values()],
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
        fidelity_floor=study.config["reporting"]["fidelity_floor"],
        code=code_digest("deepgap.aggregate", "deepgap.published"),
    message:
        "Aggregate the cells of all GPUs."
    script:
        "../scripts/aggregate_cells.py"
