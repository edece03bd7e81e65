# The paper's parts, and the PDF.

# With more cells than this the page does not hold every call, which would make it slow.
MOST_RAW_CELLS = 3000
RAW_CELLS = [cell.path for cell in (*present, *to_measure.values())]


rule write_report:
    input:
        **summary_of(),
        specs=expand("paper/figures/{figure}.vl.json", figure=FIGURES),
        tables=expand("paper/tables/{table}.tex", table=TABLES),
        cells=RAW_CELLS if len(RAW_CELLS) <= MOST_RAW_CELLS else [],
        template=own("paper/templates/report.html.j2"),
    output:
        page="paper/report.html",
    log:
        "logs/write_report.log",
    params:
        reporting=study.config["reporting"],
        captions={figure: figures.read_caption(figure) for figure in FIGURES},
        titles={
            **{table: table for table in TABLES},
            **parts.read_titles(Path(own("paper/main.tex"))),
        },
        code=code_digest(
            "deepgap.paper.report", script=own("workflow/scripts/write_report.py")
        ),
    message:
        "Write the interactive page."
    script:
        "../scripts/write_report.py"


PARTS = [
    *expand("paper/tables/{table}.tex", table=TABLES),
    *expand(
        "paper/figures/{figure}.{ending}",
        figure=FIGURES,
        ending=["vl.json", "pdf", "svg", "png"],
    ),
    *rules.write_numbers.output,
    *rules.write_report.output,
]


rule paper:
    input:
        PARTS,
        ASKED_FOR,
    message:
        "All tables, figures and numbers of the paper are rendered."


rule write_claims:
    input:
        **summary_of(),
    output:
        tex="paper/claims.tex",
    log:
        "logs/write_claims.log",
    params:
        reporting=study.config["reporting"],
        code=code_digest(
            "deepgap.paper.claims", script=own("workflow/scripts/write_claims.py")
        ),
    message:
        "Check the claims of the text."
    script:
        "../scripts/write_claims.py"


if not in_checkout:

    rule copy_text:
        input:
            main=own("paper/main.tex"),
            refs=own("paper/refs.bib"),
        output:
            main="paper/main.tex",
            refs="paper/refs.bib",
        log:
            "logs/copy_text.log",
        message:
            "Copy the paper's text from deep-gap."
        shell:
            "(cp {input.main} {output.main} && cp {input.refs} {output.refs}) 2> {log}"


rule compile_paper:
    input:
        main="paper/main.tex",
        claims="paper/claims.tex",
        refs="paper/refs.bib",
        parts=PARTS,
    output:
        pdf="paper/paper.pdf",
    log:
        "logs/compile_paper.log",
    message:
        "Compile the paper with latexmk."
    script:
        "../scripts/compile_paper.py"


rule pdf:
    input:
        rules.compile_paper.output.pdf,
        ASKED_FOR,
    message:
        "The paper is compiled."
