"""The paper's tables for a web page: the same numbers, read from the LaTeX that the templates made."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

ESCAPED = {char: chr(0xE000 + place) for place, char in enumerate("&%$#_{}")}
"""Characters of the text that LaTeX gives a meaning, and what stands for them while it is read."""
SYMBOLS = {
    r"\textbackslash{}": "\\",
    r"\textasciitilde{}": "~",
    r"\textasciicircum{}": "^",
    r"\textless{}": "<",
    r"\textgreater{}": ">",
    r"\texttimes{}": "×",
    r"\times": "×",
    r"\leq": "≤",
    r"\geq": "≥",
    r"\approx": "≈",
    r"\dagger": "†",
    r"\ddagger": "‡",
    r"\to": "→",
    r"\ast": "*",
    r"\mu": "µ",
    r"\pm": "±",
    r"\sigma": "σ",
    r"\,": "\N{NO-BREAK SPACE}",
    r"\ ": " ",
    "---": "–",
    "--": "–",
    "-{}-": "--",
    "~": " ",
}
RULE = re.compile(r"\\(?:top|bottom)rule|\\addlinespace(?:\[[^]]*\])?|\\cmidrule(?:\([^)]*\))?\{[^}]*\}|\\medskip")
DROPPED = re.compile(r"\\(?:phantom|hspace\*?|label)\{[^{}]*\}|@\{\}|\\(?:begin|end)\{fitted\}")
MACRO = re.compile(r"\\[a-zA-Z]+\{([^{}]*)\}")
RAISED = re.compile(r"\^\{([^{}]*)\}")
LETTER = re.compile(r"\$\^([A-Za-z]+)\$")
"""Of a note to a cell."""
SPAN = re.compile(r"\\multicolumn\{(\d+)\}\{[^{}]*\}\{")


@dataclass(frozen=True)
class Cell:
    """The text of a cell and over how many columns it goes."""

    text: str
    span: int = 1


@dataclass(frozen=True)
class WebTable:
    """The rows above the first rule, and those below it."""

    head: list[list[Cell]] = field(default_factory=list)
    body: list[list[Cell]] = field(default_factory=list)


def read_tables(tex: str) -> tuple[list[WebTable], list[str]]:
    """The tabulars of a rendered table, and what stands outside them as sentences."""
    for char, mark in ESCAPED.items():
        tex = tex.replace(f"\\{char}", mark)
    tables, sentences = [], []
    while (start := tex.find(r"\begin{tabular}")) >= 0:
        sentences.append(tex[:start])
        body = _after_group(tex, start + len(r"\begin{tabular}"))
        end = tex.index(r"\end{tabular}", body)
        tables.append(_read_tabular(tex[body:end]))
        tex = tex[end + len(r"\end{tabular}") :]
    told = [plain(text) for text in (*sentences, tex)]
    return tables, [text for text in told if text]


def _after_group(text: str, start: int) -> int:
    """The place after the group in braces that begins here."""
    depth = 0
    for place in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return place + 1
    raise ValueError(f"a brace is not closed after {text[start : start + 40]!r}")


def _read_tabular(body: str) -> WebTable:
    head, ruled, rest = body.partition(r"\midrule")
    return WebTable(_read_rows(head if ruled else ""), _read_rows(rest if ruled else head))


def _read_rows(text: str) -> list[list[Cell]]:
    rows = (RULE.sub("", line.replace(r"\midrule", "")).strip() for line in text.split(r"\\"))
    return [[_read_cell(cell) for cell in row.split("&")] for row in rows if row]


def _read_cell(text: str) -> Cell:
    text = DROPPED.sub("", text).strip()
    if span := SPAN.match(text):
        return Cell(plain(text[span.end() :].removesuffix("}")), int(span[1]))
    return Cell(plain(text))


def plain(text: str) -> str:
    """The text that LaTeX prints of the few macros that the templates use."""
    text = RULE.sub("", DROPPED.sub("", text))
    for macro, symbol in SYMBOLS.items():
        text = text.replace(macro, symbol)
    while MACRO.search(text) or RAISED.search(text):
        text = RAISED.sub(r"^\1", MACRO.sub(r"\1", text))
    text = re.sub(r"[${}]", "", LETTER.sub(r" (\1)", text)).replace("^", "")
    for char, mark in ESCAPED.items():
        text = text.replace(mark, char)
    return re.sub(r"[ \n]+", " ", text).strip()
