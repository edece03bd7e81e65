# The paper's parts, and the PDF.


rule paper:
    input:
        expand("paper/tables/{table}.tex", table=TABLES),
        expand(
            "paper/figures/{figure}.{ending}",
            figure=FIGURES,
            ending=["vl.json", "pdf", "svg", "png"],
        ),
        rules.write_numbers.output,
    message:
        "All tables, figures and numbers of the paper are rendered."


rule compile_paper:
    input:
        main="paper/main.tex",
        refs="paper/refs.bib",
        parts=rules.paper.input,
    output:
        pdf="paper/paper.pdf",
    log:
        "logs/compile_paper.log",
    conda:
        "../../envs/paper.yaml"
    message:
        "Compile the paper with latexmk."
    script:
        "../scripts/compile_paper.py"


rule pdf:
    input:
        rules.compile_paper.output.pdf,
    message:
        "The paper is compiled."
