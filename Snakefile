# The workflow stands where Snakemake's catalogue looks for it.
include: "workflow/Snakefile"


# Snakemake takes no default target from a file that is included.
workflow.default_target = "all"
