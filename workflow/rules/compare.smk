# Two sites, kinds or states of results: snakemake compare --cores 1 --config base=H100 other=H100@lab2


# Reads the folders as they are whenever it is asked for. The table is no output, because Snakemake would remove it
# where something is slower, which fails.
rule compare:
    input:
        gpus=[GPUS_FILE, *CARD_FILES],
        schema=own(GPUS_SCHEMA),
    log:
        "logs/compare.log",
    params:
        base=study.config["base"],
        other=study.config["other"],
        margin=study.config["margin"],
        results="results",
        table="results/comparison.csv",
    message:
        "Compare two states of results."
    script:
        "../scripts/compare_results.py"
