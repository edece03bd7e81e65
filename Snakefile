# deep-gap: from config to measured cells to the paper. Wiring only; the work is in src/deepgap.
from snakemake.utils import min_version

min_version("9.27")


include: "workflow/rules/common.smk"


if study.gpu is not None:

    include: "workflow/rules/model.smk"
    include: "workflow/rules/engine.smk"
    include: "workflow/rules/measure.smk"
    include: "workflow/rules/fidelity.smk"


include: "workflow/rules/aggregate.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/paper.smk"
include: "workflow/rules/arxiv.smk"
include: "workflow/rules/recommend.smk"
include: "workflow/rules/check.smk"


rule all:
    default_target: True
    input:
        rules.paper.input,
    message:
        "All is rendered but the PDF, which 'snakemake pdf --cores 1' compiles."


onstart:
    check_latex()
    begin_session()
    clear_summary()


onerror:
    tell_failures(log)
