# What every mode of a model shares: its weights, its ONNX graphs, and the answers that all modes are held against.
# All that a model needs is made right before its first block: the first numbers do not wait for the other models, and
# a block's modes are measured one after another. Jobs start in the order of these priorities.
order = {stem: place for place, stem in enumerate(to_measure)}
block_begins, model_begins = {}, {}
for stem, cell in to_measure.items():
    block_begins.setdefault(cell.block, order[stem])
    model_begins.setdefault(cell.model, order[stem])


def at_place(place):
    """The priority of a cell by its place in the run order."""
    return 2 * (len(order) - place)


def before_model(wildcards):
    """Before the first cell of a model, and behind the cell before that."""
    return at_place(model_begins.get(wildcards.model, len(order))) + 1


held_out_sizes = {
    artifacts.held_out(model, study.gpu).split(".")[1]: model.image_size
    for model in study.models_of(study.gpu)
}


def fp32_source(model):
    """What the FP32 model runs from on the host."""
    return artifacts.onnx(model, "fp32") if model.is_graph else artifacts.weights(model)


rule build_weights:
    output:
        weights="build/weights/{model}.{key}.pt",
    log:
        "logs/build_weights/{model}.{key}.log",
    priority: before_model
    # A measurement may not run beside this: it uses all cores of the host. So do the rules below.
    resources:
        gpu=1,
    params:
        model=lambda wildcards: study.model(wildcards.model).request,
    message:
        "Build the weights of {wildcards.model}."
    script:
        "../scripts/build_weights.py"


rule export_onnx:
    input:
        weights="build/weights/{model}.{key}.pt",
    output:
        graph="build/onnx/{model}.{key}.{precision}.onnx",
    log:
        "logs/export_onnx/{model}.{key}.{precision}.log",
    wildcard_constraints:
        precision="fp32|fp16",
    priority: before_model
    resources:
        gpu=1,
    params:
        model=lambda wildcards: study.model(wildcards.model).request,
        precision="{precision}",
    message:
        "Export {wildcards.model} to ONNX in {wildcards.precision}."
    script:
        "../scripts/export_onnx.py"


rule count_facts:
    input:
        graph="build/onnx/{model}.{key}.fp32.onnx",
    output:
        facts="build/facts/{model}.{key}.json",
    log:
        "logs/count_facts/{model}.{key}.log",
    priority: before_model
    resources:
        gpu=1,
    message:
        "Count the operations and the traffic of {wildcards.model}."
    script:
        "../scripts/count_facts.py"


rule draw_held_out:
    output:
        images="build/heldout/images.{key}.npz",
    log:
        "logs/draw_held_out/{key}.log",
    priority: at_place(0) + 1
    resources:
        gpu=1,
    params:
        images_wanted=study.protocol(study.gpu).fidelity_images,
        image_size=lambda wildcards: held_out_sizes[wildcards.key],
        accuracy=study.config["accuracy"],
        described=study.accuracy,
    message:
        "Draw the held-out images."
    script:
        "../scripts/draw_held_out.py"


rule compute_reference:
    input:
        source=lambda wildcards: fp32_source(study.model(wildcards.model)),
        images=lambda wildcards: artifacts.held_out(
            study.model(wildcards.model), study.gpu
        ),
    output:
        logits="build/reference/{model}.{key}.npz",
    log:
        "logs/compute_reference/{model}.{key}.log",
    priority: before_model
    resources:
        gpu=1,
    params:
        model=lambda wildcards: study.model(wildcards.model).request,
        accuracy=study.accuracy,
    message:
        "Compute the FP32 reference answers of {wildcards.model}."
    script:
        "../scripts/compute_reference.py"
