"""Charts to files: the specification, and its pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import vl_convert

from deepgap.errors import DeepGapError
from deepgap.text import read_text, write_text

if TYPE_CHECKING:
    import altair as alt

PNG_DOTS_PER_INCH = 300

FONTS = Path(__file__).parent.parent / "fonts"


def write_spec(chart: alt.VConcatChart, file: str) -> None:
    """Write a chart as Vega-Lite JSON, the same bytes for the same chart."""
    write_text(Path(file), json.dumps(chart.to_dict(), sort_keys=True, indent=1, ensure_ascii=False) + "\n")


def render_spec(spec: str, pdf: str, svg: str, png: str, fonts: Path = FONTS) -> None:
    """Render a specification as PDF, SVG and PNG.

    Args:
        spec: the Vega-Lite JSON.
        pdf, svg, png: the pictures to write.
        fonts: the folder of fonts; the font comes from there and not from the machine.

    Raises:
        DeepGapError: there is no font.
    """
    if not any(fonts.glob("*.otf")):
        raise DeepGapError(f"{fonts} holds no font; restore it from the repository.")
    vl_convert.register_font_directory(str(fonts))
    text = read_text(Path(spec))
    drawing = vl_convert.vegalite_to_svg(text, vl_version=_version(json.loads(text)))
    write_text(Path(svg), drawing)
    Path(pdf).write_bytes(vl_convert.svg_to_pdf(drawing))
    Path(png).write_bytes(vl_convert.svg_to_png(drawing, ppi=PNG_DOTS_PER_INCH))


def _version(spec: dict[str, Any]) -> str:
    """`6.4` of `https://vega.github.io/schema/vega-lite/v6.4.1.json`."""
    return ".".join(Path(spec["$schema"]).stem.lstrip("v").split(".")[:2])
