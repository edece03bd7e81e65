# How far the modes of this GPU's study are from FP32, layer by layer, and what each calibration method costs.
modes = study.modes_of(study.gpu)
in_pytorch = [m for m in modes if study.runtimes[m.runtime].source == "module"]
in_graphs = [m for m in modes if m not in in_pytorch]
models = [model.key for model in study.models_of(study.gpu)]


rule compare_layers:
    input:
        weights=lambda wildcards: artifacts.weights(study.model(wildcards.model)),
        images=lambda wildcards: artifacts.held_out(
            study.model(wildcards.model), study.gpu
        ),
        graphs=lambda wildcards: list(
            dict.fromkeys(
                artifacts.graph(study.model(wildcards.model), m) for m in in_graphs
            )
        ),
    output:
        layers=f"results/fidelity/{study.gpu}/{{model}}_layers.csv",
    log:
        f"logs/compare_layers/{study.gpu}/{{model}}.log",
    wildcard_constraints:
        model="|".join(models),
    resources:
        gpu=1,
    params:
        gpu=asdict(study.gpus[study.gpu]),
        precisions=list(dict.fromkeys(m.precision for m in in_pytorch)),
        code=code_digest(
            "deepgap.measure.fidelity_report",
            script=own("workflow/scripts/compare_layers.py"),
        ),
    message:
        "Compare the layers of {wildcards.model} with FP32."
    script:
        "../scripts/compare_layers.py"


rule compare_methods:
    input:
        graph=lambda wildcards: artifacts.onnx(study.model(wildcards.model), "fp32"),
        images=lambda wildcards: artifacts.held_out(
            study.model(wildcards.model), study.gpu
        ),
        reference=lambda wildcards: artifacts.reference(
            study.model(wildcards.model), study.gpu
        ),
    output:
        methods=f"results/fidelity/{study.gpu}/{{model}}_methods.csv",
    log:
        f"logs/compare_methods/{study.gpu}/{{model}}.log",
    wildcard_constraints:
        model="|".join(models),
    resources:
        gpu=1,
    params:
        calibration=study.config["calibration"],
        image_size=lambda wildcards: study.model(wildcards.model).image_size,
        # Another image in the same folder changes this alone.
        images_seen=study.calibration,
        code=code_digest(
            "deepgap.measure.fidelity_report",
            script=own("workflow/scripts/compare_methods.py"),
        ),
    message:
        "Compare the calibration methods on {wildcards.model}."
    script:
        "../scripts/compare_methods.py"


rule fidelity:
    input:
        layers=expand(rules.compare_layers.output.layers, model=models),
        methods=expand(rules.compare_methods.output.methods, model=models),
    log:
        f"logs/fidelity/{study.gpu}.log",
    message:
        "Print the fidelity of all modes of this GPU."
    script:
        "../scripts/print_fidelity.py"
