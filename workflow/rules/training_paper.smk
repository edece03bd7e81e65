# The second paper, on training: snakemake training_pdf
from pathlib import Path

from deepgap.paper import parts
from deepgap.paper import training as second_paper

SECOND_SHOWN = parts.read_shown(Path(own("paper/training.tex")))
SECOND_FIGURES = parts.in_order(second_paper.FIGURES, SECOND_SHOWN.figures)
SECOND_TABLES = parts.in_order(second_paper.TABLES, SECOND_SHOWN.tables)
SECOND_CELLS = "paper/training/cells.parquet"
SECOND_SUMMARY = {
    "cells": SECOND_CELLS,
    "published": own("data/published/democratizing_ai.csv"),
    "memory": own("data/published/gpu_memory_epoch.csv"),
    "gpus": [GPUS_FILE, *CARD_FILES],
    "schema": own(GPUS_SCHEMA),
}


# All cells that are there, and in the second study those that it measures now.
rule aggregate_training:
    input:
        cells=sorted(
            {
                *map(str, Path("results/training").glob("*/cells/*.parquet")),
                *(ASKED_FOR if STUDY.name == "training" else []),
            }
        ),
    output:
        table=SECOND_CELLS,
    log:
        "logs/aggregate_training.log",
    params:
        code=code_digest(
            "deepgap.analyse.training.cells",
            script=own("workflow/scripts/aggregate_training.py"),
        ),
    message:
        "Put the cells of the second study into one table."
    script:
        "../scripts/aggregate_training.py"


rule draw_training_figure:
    input:
        **SECOND_SUMMARY,
    output:
        spec="paper/training/figures/{figure}.vl.json",
    log:
        "logs/draw_training_figure/{figure}.log",
    wildcard_constraints:
        figure="|".join(SECOND_FIGURES),
    params:
        figure="{figure}",
        code=lambda wildcards: code_digest(
            f"deepgap.paper.training.figures.{wildcards.figure}",
            "deepgap.paper.charts.picture",
            script=own("workflow/scripts/draw_training_figure.py"),
        ),
    message:
        "Draw {wildcards.figure} of the second paper."
    script:
        "../scripts/draw_training_figure.py"


rule render_training_figure:
    input:
        spec="paper/training/figures/{figure}.vl.json",
    output:
        pdf="paper/training/figures/{figure}.pdf",
        svg="paper/training/figures/{figure}.svg",
        png="paper/training/figures/{figure}.png",
    log:
        "logs/render_training_figure/{figure}.log",
    wildcard_constraints:
        figure="|".join(SECOND_FIGURES),
    params:
        code=code_digest(
            "deepgap.paper.charts.picture",
            script=own("workflow/scripts/render_figure.py"),
        ),
    message:
        "Render {wildcards.figure} of the second paper."
    script:
        "../scripts/render_figure.py"


rule render_training_table:
    input:
        **SECOND_SUMMARY,
        template=lambda wildcards: own(
            f"paper/templates/training/{wildcards.table}.tex.j2"
        ),
    output:
        tex="paper/training/tables/{table}.tex",
    log:
        "logs/render_training_table/{table}.log",
    wildcard_constraints:
        table="|".join(SECOND_TABLES),
    params:
        table="{table}",
        code=lambda wildcards: code_digest(
            f"deepgap.paper.training.tables.{wildcards.table}",
            "deepgap.paper.latex",
            script=own("workflow/scripts/render_training_table.py"),
        ),
    message:
        "Render {wildcards.table} of the second paper."
    script:
        "../scripts/render_training_table.py"


rule write_training_numbers:
    input:
        **SECOND_SUMMARY,
    output:
        numbers="paper/training/numbers.tex",
        claims="paper/training/claims.tex",
    log:
        "logs/write_training_numbers.log",
    params:
        captions={
            figure: second_paper.read_caption(figure) for figure in SECOND_FIGURES
        },
        code=code_digest(
            "deepgap.paper.training.numbers",
            "deepgap.paper.training.claims",
            script=own("workflow/scripts/write_training_numbers.py"),
        ),
    message:
        "Write the numbers of the second paper, and check its claims."
    script:
        "../scripts/write_training_numbers.py"


rule training_paper:
    input:
        rules.write_training_numbers.output,
        expand("paper/training/tables/{table}.tex", table=SECOND_TABLES),
        expand(
            "paper/training/figures/{figure}.{ending}",
            figure=SECOND_FIGURES,
            ending=["vl.json", "pdf", "svg", "png"],
        ),
    message:
        "All tables, figures and numbers of the second paper are rendered."


if not in_checkout:

    rule copy_training_text:
        input:
            main=own("paper/training.tex"),
            refs=own("paper/training.bib"),
        output:
            main="paper/training.tex",
            refs="paper/training.bib",
        log:
            "logs/copy_training_text.log",
        message:
            "Copy the second paper's text from deep-gap."
        shell:
            "(cp {input.main} {output.main} && cp {input.refs} {output.refs}) 2> {log}"


rule compile_training_paper:
    input:
        main="paper/training.tex",
        refs="paper/training.bib",
        parts=rules.training_paper.input,
    output:
        pdf="paper/training.pdf",
    log:
        "logs/compile_training_paper.log",
    message:
        "Compile the second paper with latexmk."
    script:
        "../scripts/compile_paper.py"


rule training_pdf:
    input:
        rules.compile_training_paper.output.pdf,
    message:
        "The second paper is compiled."
