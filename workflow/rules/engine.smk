# From the FP32 graph to the calibrated INT8 graphs, and from a graph to an engine for this GPU.
from dataclasses import asdict

uncalibrated = [
    model.key
    for model in study.models_of(study.gpu)
    if not Path(artifacts.calibration_cache(model)).exists()
]
engines = {
    artifacts.source(cell): cell
    for stem, cell in to_measure.items()
    if stem not in skipped and study.runtimes[cell.mode.runtime].source == "engine"
}
ahead_of_time = [
    path
    for path, cell in engines.items()
    if study.runtimes[cell.mode.runtime].ahead_of_time
]


# A cache that exists is a leaf: its name says all that defines it, so nothing can make it stale.
rule calibrate:
    input:
        graph=lambda wildcards: artifacts.onnx(study.model(wildcards.model), "fp32"),
    output:
        cache="build/int8/{model}.{key}.cache",
    log:
        "logs/calibrate/{model}.{key}.log",
    wildcard_constraints:
        model="|".join(uncalibrated) or "(?!)",
    priority: before_model
    resources:
        gpu=1,
    params:
        calibration=study.config["calibration"],
        described=study.calibration,
        image_size=lambda wildcards: study.model(wildcards.model).image_size,
    message:
        "Calibrate {wildcards.model} for INT8."
    script:
        "../scripts/calibrate.py"


rule quantize:
    input:
        source=lambda wildcards: artifacts.onnx(study.model(wildcards.model), "fp32"),
        cache="build/int8/{model}.{key}.cache",
    output:
        graph="build/int8/{model}.{key}.{form}.onnx",
    log:
        "logs/quantize/{model}.{key}.{form}.log",
    wildcard_constraints:
        form="qdq|qdq_fp16|qdq_fp8|u8s8",
    priority: before_model
    resources:
        gpu=1,
    params:
        form="{form}",
        attention=study.config["calibration"]["attention"],
    message:
        "Insert the {wildcards.form} pairs into {wildcards.model}."
    script:
        "../scripts/quantize.py"


def engine_cell(wildcards):
    return engines[f"build/engines/{study.gpu}/{wildcards.name}.{wildcards.key}.engine"]


def engine_graph(wildcards):
    cell = engine_cell(wildcards)
    return artifacts.graph(study.model(cell.model), cell.mode)


def engine_request(wildcards):
    cell = engine_cell(wildcards)
    return {
        "gpu": asdict(study.gpus[study.gpu]),
        "engine_recipe": artifacts.engine_recipe(
            cell.gpu, study.model(cell.model), cell.mode, cell.batch_size
        ),
        "runtime": cell.mode.runtime,
        "precision": cell.mode.precision,
        "timing_cache": f"build/engines/{study.gpu}/{cell.mode.runtime}.timing",
    }


rule build_engine:
    input:
        graph=engine_graph,
    output:
        engine=f"build/engines/{study.gpu}/{{name}}.{{key}}.engine",
    log:
        f"logs/build_engine/{study.gpu}/{{name}}.{{key}}.log",
    # Right before the block that runs it.
    priority: lambda wildcards: at_place(block_begins[engine_cell(wildcards).block]) + 1
    resources:
        gpu=1,
    params:
        request=engine_request,
    message:
        f"Build the engine {{wildcards.name}} for {study.gpu}."
    script:
        "../scripts/build_engine.py"


rule engines:
    input:
        ahead_of_time,
    message:
        "The engines are there that can be built for this GPU on any machine."
