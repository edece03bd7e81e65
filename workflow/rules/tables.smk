# Tables: a jinja2 template each, filled from the tidy tables.


rule render_table:
    input:
        unpack(lambda wildcards: summary_of(tables.shown_devices(wildcards.table))),
        template="paper/templates/{table}.tex.j2",
    output:
        tex="paper/tables/{table}.tex",
    log:
        "logs/render_table/{table}.log",
    wildcard_constraints:
        table="|".join(TABLES),
    conda:
        "../../envs/paper.yaml"
    params:
        table="{table}",
        reporting=study.config["reporting"],
        code=lambda wildcards: code_digest(
            f"deepgap.paper.tables.{wildcards.table}",
            "deepgap.paper.latex",
            script="workflow/scripts/render_table.py",
        ),
    message:
        "Render {wildcards.table}."
    script:
        "../scripts/render_table.py"


rule write_numbers:
    input:
        **summary_of(),
    output:
        tex="paper/numbers.tex",
    log:
        "logs/write_numbers.log",
    conda:
        "../../envs/paper.yaml"
    params:
        reporting=study.config["reporting"],
        captions={figure: figures.read_caption(figure) for figure in FIGURES},
        macros=list(SHOWN.macros),
        code=code_digest(
            "deepgap.paper.numbers", script="workflow/scripts/write_numbers.py"
        ),
    message:
        "Write the numbers of the text."
    script:
        "../scripts/write_numbers.py"
