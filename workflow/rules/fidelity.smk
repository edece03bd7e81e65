# How far the modes of this GPU's study are from FP32, layer by layer, and what each calibration method costs.
from deepgap.study.study import parse_mode

modes = [parse_mode(mode) for mode in study.axes(study.gpu)["modes"]]
in_pytorch = [m for m in modes if load_runtime(m.runtime).source == "module"]
in_graphs = [m for m in modes if m not in in_pytorch]
models = study.axes(study.gpu)["models"]


rule compare_layers:
    input:
        weights=lambda wildcards: artifacts.weights(wildcards.model),
        images=artifacts.held_out(study.gpu),
        graphs=lambda wildcards: list(
            dict.fromkeys(artifacts.graph(wildcards.model, m) for m in in_graphs)
        ),
    output:
        layers=f"results/fidelity/{study.gpu}/{{model}}_layers.csv",
    log:
        f"logs/compare_layers/{study.gpu}/{{model}}.log",
    wildcard_constraints:
        model="|".join(models),
    conda:
        "../../envs/measure.yaml"
    resources:
        gpu=1,
    params:
        gpu=asdict(study.gpus[study.gpu]),
        precisions=list(dict.fromkeys(m.precision for m in in_pytorch)),
        code=code_digest(
            "deepgap.build.fidelity_report",
            script="workflow/scripts/compare_layers.py",
        ),
    message:
        "Compare the layers of {wildcards.model} with FP32."
    script:
        "../scripts/compare_layers.py"


rule compare_methods:
    input:
        graph=lambda wildcards: artifacts.onnx(wildcards.model, "fp32"),
        images=artifacts.held_out(study.gpu),
        reference=lambda wildcards: artifacts.reference(wildcards.model, study.gpu),
    output:
        methods=f"results/fidelity/{study.gpu}/{{model}}_methods.csv",
    log:
        f"logs/compare_methods/{study.gpu}/{{model}}.log",
    wildcard_constraints:
        model="|".join(models),
    conda:
        "../../envs/measure.yaml"
    resources:
        gpu=1,
    params:
        calibration=study.config["calibration"],
        labelled=study.config["weights"]["source"] == "seeded",
        # Another image in the same folder changes this alone.
        images_seen=study.calibration,
        code=code_digest(
            "deepgap.build.fidelity_report",
            script="workflow/scripts/compare_methods.py",
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
    conda:
        "../../envs/measure.yaml"
    message:
        "Print the fidelity of all modes of this GPU."
    script:
        "../scripts/print_fidelity.py"
