# Figures: the specification and its rendering are separate, so that either can be read and rerun alone.


rule draw_figure:
    input:
        unpack(lambda wildcards: summary_of(figures.shown_devices(wildcards.figure))),
    output:
        spec="paper/figures/{figure}.vl.json",
    log:
        "logs/draw_figure/{figure}.log",
    wildcard_constraints:
        figure="|".join(FIGURES),
    params:
        figure="{figure}",
        reporting=study.config["reporting"],
        code=lambda wildcards: code_digest(
            f"deepgap.paper.figures.{wildcards.figure}",
            "deepgap.paper.charts.picture",
            script=own("workflow/scripts/draw_figure.py"),
        ),
    message:
        "Draw {wildcards.figure}."
    script:
        "../scripts/draw_figure.py"


rule render_figure:
    input:
        spec="paper/figures/{figure}.vl.json",
    output:
        pdf="paper/figures/{figure}.pdf",
        svg="paper/figures/{figure}.svg",
        png=report(
            "paper/figures/{figure}.png",
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
    log:
        "logs/render_figure/{figure}.log",
    wildcard_constraints:
        figure="|".join(FIGURES),
    params:
        caption=lambda wildcards: figures.read_caption(wildcards.figure),
        code=code_digest(
            "deepgap.paper.charts.picture",
            script=own("workflow/scripts/render_figure.py"),
        ),
    message:
        "Render {wildcards.figure}."
    script:
        "../scripts/render_figure.py"
