# The best measured operating points under a bound on latency: snakemake recommend --config slo_ms=10


rule find_recommendation:
    input:
        **summary_of(),
    output:
        points="results/recommendation.csv",
        text="results/recommendation.txt",
    log:
        "logs/find_recommendation.log",
    params:
        reporting=study.config["reporting"],
        slo_ms=study.config["slo_ms"],
        objective=study.config["objective"],
        code=code_digest(
            "deepgap.analyse.recommend", script=own("workflow/scripts/recommend.py")
        ),
    message:
        "Find the best measured operating points."
    script:
        "../scripts/recommend.py"


# Prints whenever it is asked for, also when nothing has changed.
rule recommend:
    input:
        points=rules.find_recommendation.output.points,
        text=rules.find_recommendation.output.text,
        cells=ASKED_FOR,
    log:
        "logs/recommend.log",
    message:
        "Print the recommendation."
    shell:
        "cat {input.text} 2> {log}"
