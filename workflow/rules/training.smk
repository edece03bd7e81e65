# One job a missing cell of the second study. A cell that exists matches no rule here.
import re

if study.gpu is not None:

    rule train_cell:
        input:
            facts=facts_of,
        output:
            # Only NVIDIA GPUs can be sampled.
            **(
                {"telemetry": f"{RESULTS}/{study.gpu}/telemetry/{{stem}}.parquet"}
                if study.gpus[study.gpu].device == "cuda"
                else {}
            ),
            cell=f"{RESULTS}/{study.gpu}/cells/{{stem}}.parquet",
        log:
            f"logs/train_cell/{study.gpu}/{{stem}}.log",
        wildcard_constraints:
            stem="|".join(map(re.escape, to_measure)) or "(?!)",
        # Sweep by sweep, in the study's random order.
        priority: lambda wildcards: len(order) - order[wildcards.stem]
        resources:
            gpu=1,
        params:
            request=train_request,
            python=lambda wildcards: PYTHONS[to_measure[wildcards.stem].mode.runtime],
        message:
            "Measure {wildcards.stem}."
        script:
            "../scripts/train_cell.py"

    rule count_workload:
        output:
            facts="build/training/{model}_{image_size}px_seed{seed}.json",
        log:
            "logs/count_workload/{model}_{image_size}px_seed{seed}.log",
        wildcard_constraints:
            model="|".join(study.workloads),
            image_size=r"\d+",
            seed=r"\d+",
        params:
            code=code_digest(
                "deepgap.training.count",
                script=own("workflow/scripts/count_workload.py"),
            ),
            workload=lambda wildcards: dict(wildcards),
        message:
            "Count the arithmetic of {wildcards.model} at {wildcards.image_size} pixels."
        script:
            "../scripts/count_workload.py"


rule cells:
    input:
        [
            cell.path
            for cell in [*present, *to_measure.values()]
            if cell.gpu == study.gpu and study.is_asked_for(cell)
        ],
    message:
        "All cells of this GPU are measured."


rule paper:
    input:
        ASKED_FOR,
        lambda wildcards: rules.training_paper.input,
    message:
        "All cells are measured, and the second paper's tables and figures are rendered."
