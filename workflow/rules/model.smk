# The weights that every mode of a model shares.


rule build_weights:
    output:
        weights="build/weights/{model}.{key}.pt",
    log:
        "logs/build_weights/{model}.{key}.log",
    # Before every measurement, so that the run order can mix the models.
    priority: 1000000
    conda:
        "../../envs/measure.yaml"
    # A measurement may not run beside this: it uses all cores of the host.
    resources:
        gpu=1,
    params:
        settings=study.config["weights"],
    message:
        "Build the weights of {wildcards.model}."
    script:
        "../scripts/build_weights.py"
