# Are all cells what they say, and what would a comparison of them mix? snakemake check


# Reads every file below the study's results, listed by the study or not, whenever it is asked for.
rule check:
    input:
        gpus=[GPUS_FILE, *CARD_FILES],
        schema=own(GPUS_SCHEMA),
    log:
        "logs/check.log",
    params:
        results=RESULTS,
    message:
        f"Check all cells below {RESULTS}/."
    script:
        "../scripts/check_cells.py"
