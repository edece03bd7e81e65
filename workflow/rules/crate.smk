# The results as an RO-Crate, for an archive: snakemake crate


rule describe_crate:
    input:
        cells=RAW_CELLS,
        samples=[file for group in GROUPS.values() for file in group["samples"]],
    output:
        crate="results/ro-crate-metadata.json",
    log:
        "logs/describe_crate.log",
    params:
        code=code_digest(
            "deepgap.paper.crate", script=own("workflow/scripts/describe_crate.py")
        ),
    message:
        "Describe the cells as an RO-Crate."
    script:
        "../scripts/describe_crate.py"


rule crate:
    input:
        rules.describe_crate.output.crate,
        ASKED_FOR,
    message:
        "The results are an RO-Crate."
