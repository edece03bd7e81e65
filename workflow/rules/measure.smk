# One job a missing cell. A cell that exists matches no rule here.
import re

# A sweep stays on one card of the machine, and each card has one cell at a time.
CARDS = study.config["cards"]
if CARDS > 1:
    for name in ("gpu", *(f"card_{card}" for card in range(1, CARDS + 1))):
        workflow.register_resource(name, CARDS if name == "gpu" else 1)


def card_of(cell):
    return (cell.sweep - 1) % CARDS + 1 if CARDS > 1 else None


def uses(card):
    return lambda wildcards: int(card_of(to_measure[wildcards.stem]) == card)


def measure_request(wildcards):
    cell = to_measure[wildcards.stem]
    built = wildcards.stem not in skipped and (
        study.runtimes[cell.mode.runtime].source == "engine"
    )
    return {
        "recipe": cell.recipe,
        "gpu": asdict(study.gpus[study.gpu]),
        "engine_recipe": (
            artifacts.engine_recipe(
                cell.gpu, study.model(cell.model), cell.mode, cell.batch_size
            )
            if built
            else None
        ),
        "place": order[wildcards.stem] + 1,
        "card": card_of(cell),
    }


def source_of(wildcards):
    """What a cell runs from; for one that cannot be, the model's weights, of which its row tells the hash."""
    cell = to_measure[wildcards.stem]
    if wildcards.stem in skipped:
        return artifacts.weights(study.model(cell.model))
    return artifacts.source(cell)


rule measure_cell:
    input:
        source=source_of,
        facts=lambda wildcards: artifacts.facts(
            study.model(to_measure[wildcards.stem].model)
        ),
        held_out=lambda wildcards: artifacts.held_out(
            study.model(to_measure[wildcards.stem].model), study.gpu
        ),
        reference=lambda wildcards: artifacts.reference(
            study.model(to_measure[wildcards.stem].model), study.gpu
        ),
    output:
        **(
            {"telemetry": f"results/{study.gpu}/telemetry/{{stem}}.parquet"}
            if study.gpus[study.gpu].device == "cuda"
            else {}
        ),
        cell=f"results/{study.gpu}/cells/{{stem}}.parquet",
        # Only NVIDIA GPUs can be sampled.
    log:
        f"logs/measure_cell/{study.gpu}/{{stem}}.log",
    wildcard_constraints:
        stem="|".join(map(re.escape, to_measure)) or "(?!)",
    # Sweep by sweep, in the study's random order.
    priority: lambda wildcards: at_place(order[wildcards.stem])
    resources:
        **{f"card_{card}": uses(card) for card in range(1, CARDS + 1) if CARDS > 1},
        gpu=1,
    params:
        request=measure_request,
    message:
        "Measure {wildcards.stem}."
    script:
        "../scripts/measure_cell.py"


rule cells:
    input:
        [
            cell.path
            for cell in [*present, *to_measure.values()]
            if cell.gpu == study.gpu and study.is_asked_for(cell)
        ],
    message:
        "All cells of this GPU are measured."


def prepared_files():
    """What the missing cells need and no GPU makes: weights or graphs, facts, held-out images and references, and
    engines that are built ahead of time."""
    yield from ahead_of_time
    for stem, cell in to_measure.items():
        model = study.model(cell.model)
        if stem in skipped or study.runtimes[cell.mode.runtime].source == "module":
            yield artifacts.weights(model)
        else:
            yield artifacts.graph(model, cell.mode)
        yield artifacts.facts(model)
        yield artifacts.held_out(model, study.gpu)
        yield artifacts.reference(model, study.gpu)


rule prepare:
    input:
        list(dict.fromkeys(prepared_files())),
    message:
        "All is there that the missing cells need and that takes no GPU."
