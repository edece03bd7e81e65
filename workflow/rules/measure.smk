# One job a missing cell. A cell that exists matches no rule here.
import re
from dataclasses import asdict

order = {stem: place for place, stem in enumerate(to_measure)}


def weights_file(wildcards):
    model = to_measure[wildcards.stem].model
    return f"build/weights/{model}.{study.weights_key(model)}.pt"


def measure_request(wildcards):
    return {
        "recipe": to_measure[wildcards.stem].recipe,
        "gpu": asdict(study.gpus[study.gpu]),
    }


rule measure_cell:
    input:
        weights=weights_file,
    output:
        cell=f"results/{study.gpu}/cells/{{stem}}.parquet",
    log:
        f"logs/measure_cell/{study.gpu}/{{stem}}.log",
    wildcard_constraints:
        stem="|".join(map(re.escape, to_measure)) or "(?!)",
    # Sweep by sweep, in the study's random order.
    priority: lambda wildcards: len(order) - order[wildcards.stem]
    conda:
        "../../envs/measure.yaml"
    resources:
        gpu=1,
    params:
        request=measure_request,
    message:
        "Measure {wildcards.stem}."
    script:
        "../scripts/measure_cell.py"


rule cells:
    input:
        [cell.path for cell in study.cells(study.gpu)],
    message:
        "All cells of this GPU are measured."
