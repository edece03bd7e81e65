# Tables: a jinja2 template each, filled from the tidy tables.


rule render_table:
    input:
        unpack(lambda wildcards: summary_of(tables.shown_devices(wildcards.table))),
        template=lambda wildcards: own(f"paper/templates/{wildcards.table}.tex.j2"),
    output:
        tex="paper/tables/{table}.tex",
    log:
        "logs/render_table/{table}.log",
    wildcard_constraints:
        table="|".join(TABLES),
    params:
        table="{table}",
        reporting=study.config["reporting"],
        code=lambda wildcards: code_digest(
            f"deepgap.paper.tables.{wildcards.table}",
            "deepgap.paper.latex",
            script=own("workflow/scripts/render_table.py"),
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
    params:
        reporting=study.config["reporting"],
        captions={figure: figures.read_caption(figure) for figure in FIGURES},
        macros=list(SHOWN.macros),
        code=code_digest(
            "deepgap.paper.numbers", script=own("workflow/scripts/write_numbers.py")
        ),
    message:
        "Write the numbers of the text."
    script:
        "../scripts/write_numbers.py"
