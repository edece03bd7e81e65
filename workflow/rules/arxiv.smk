# The paper's sources in one archive that compiles alone, as arXiv takes them: snakemake arxiv


rule bundle_paper:
    input:
        main="paper/main.tex",
        parts=[
            "paper/claims.tex",
            "paper/numbers.tex",
            "paper/refs.bib",
            *expand("paper/tables/{table}.tex", table=SHOWN.tables),
            *expand("paper/figures/{figure}.pdf", figure=SHOWN.figures),
        ],
    output:
        archive="paper/arxiv.tar.gz",
    log:
        "logs/bundle_paper.log",
    params:
        code=code_digest(
            "deepgap.paper.document", script=own("workflow/scripts/bundle_paper.py")
        ),
    message:
        "Pack the paper's sources and compile them alone."
    script:
        "../scripts/bundle_paper.py"


rule arxiv:
    input:
        rules.bundle_paper.output.archive,
        ASKED_FOR,
    message:
        "The paper's sources are packed."
