# From cells to the tidy tables that every table and figure reads, GPU by GPU and model by model.
import re
from dataclasses import asdict, replace


rule aggregate:
    input:
        cells=lambda wildcards: GROUPS[wildcards.gpu, wildcards.model]["cells"],
        samples=lambda wildcards: GROUPS[wildcards.gpu, wildcards.model]["samples"],
    output:
        **{name: cell_table_file(name, "{gpu}", "{model}") for name in CELL_TABLES},
    log:
        "logs/aggregate/{gpu}/{model}.log",
    wildcard_constraints:
        gpu="|".join(map(re.escape, study.platforms)),
        model="|".join(map(re.escape, study.model_keys)),
    params:
        # Of gpus.yaml what these cells are held against: another GPU or a price changes nothing here.
        gpu=lambda wildcards: asdict(
            replace(study.gpus[wildcards.gpu], price_eur_per_hour=None, sources={})
        ),
        fidelity_floor=study.config["reporting"]["fidelity_floor"],
        code=code_digest(
            "deepgap.analyse.aggregate",
            script=own("workflow/scripts/aggregate_cells.py"),
        ),
    message:
        "Aggregate the cells of {wildcards.gpu} and {wildcards.model}."
    script:
        "../scripts/aggregate_cells.py"


rule describe_study:
    input:
        published_csv=own("data/published/deep_gap.csv"),
        anchors_csv=own("data/published/mlperf_resnet50.csv"),
    output:
        **{name: study_table_file(name) for name in STUDY_TABLES},
    log:
        "logs/describe_study.log",
    params:
        asked=study.expected_counts(),
        unlisted=study.unlisted_counts(Path("results")),
        axes={
            gpu: {
                "models": [model.key for model in study.models_of(gpu)],
                "modes": [mode.name for mode in study.modes_of(gpu)],
                "batch_sizes": study.batch_sizes_of(gpu),
                "protocol": study.protocol(gpu).name,
                "thread_counts": study.axes(gpu)["thread_counts"],
                "counts": asdict(study.protocol(gpu)),
            }
            for gpu in study.platforms
        },
        code=code_digest(
            "deepgap.analyse.design", script=own("workflow/scripts/describe_study.py")
        ),
    message:
        "Describe the study and the published values."
    script:
        "../scripts/describe_study.py"


rule summary:
    input:
        **summary_of(),
        cells=ASKED_FOR,
    message:
        "All cells are aggregated."
