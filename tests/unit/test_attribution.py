"""The figure of gains by factor, on invented numbers."""

from __future__ import annotations

from deepgap.paper.figures.attribution import effect_points, pair_lines
from tests.unit.synthetic import full_summary


def test_the_figure_has_a_line_a_pair_that_differs_in_one_factor() -> None:
    points = [row for row in effect_points(full_summary()) if row["gpu"] == "H200"]
    assert pair_lines(points, "H200") == [
        "precision:",
        "eager-fp32 → eager-tf32",
        "graph:",
        "eager-fp16 → graph-fp16",
        "fusion:",
        "eager-fp16 → compile-fp16",
    ]
    ratios = full_summary().ratios.filter(gpu="H200", model="resnet18", batch_size=8, numerator="graph-fp16")
    (row,) = ratios.filter(denominator="eager-fp16").to_dicts()
    (point,) = [p for p in points if (p["model"], p["batch_size"], p["factor"]) == ("resnet18", 8, "graph")]
    assert (point["value"], point["low"], point["high"]) == (row["ratio"], row["low"], row["high"])
    assert {point["batch_size"] for point in points} == {1, 8, 512}
