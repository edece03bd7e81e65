"""Plot a subset of your own from results/summary: here throughput over batch size of one model, a line a mode.

Run `snakemake --cores 1 summary` first, then `python examples/own_plot.py H100 resnet50 own_plot.svg`. The columns
and their units are in src/deepgap/analyse/schemas.py; every table is a parquet file a GPU and model, which polars,
pandas and DuckDB read alike.
"""

import sys

import altair as alt
import polars as pl


def main(gpu: str, model: str, picture: str) -> None:
    families = pl.read_parquet(f"results/summary/families/{gpu}/{model}.parquet")
    # The primary set: steady, bound by the device, converged, alone on it. Failed families have no numbers.
    chosen = families.filter(pl.col("primary"), status="ok", threads=0).select(
        "mode", "batch_size", "throughput_img_s", "throughput_low_img_s", "throughput_high_img_s"
    )
    batch_size = alt.X("batch_size:Q", title="Batch size (images)").scale(type="log", base=2)
    throughput = alt.Y("throughput_img_s:Q", title="Throughput (img/s)").scale(type="log")
    line = alt.Chart(chosen).mark_line(point=True).encode(batch_size, throughput, color="mode:N")
    interval = (
        alt.Chart(chosen)
        .mark_rule()
        .encode(batch_size, alt.Y("throughput_low_img_s:Q"), alt.Y2("throughput_high_img_s:Q"), color="mode:N")
    )
    (line + interval).properties(title=f"{gpu}, {model}", width=360, height=240).save(picture)


if __name__ == "__main__":
    main(*sys.argv[1:])
