"""The tables of `llt acceptance` as Markdown."""

from __future__ import annotations

from llamacpp_tools.acceptance.grids import Grid, grids
from llamacpp_tools.acceptance.notes import notes
from llamacpp_tools.report.facts import commands, facts
from llamacpp_tools.report.markdown import bullets, escaped, script, table
from llamacpp_tools.results.schema import Document


def markdown(document: Document) -> str:
    """One page: what was measured, the tables, the notes, where the figures come from."""
    about = (document.model, document.box, document.backend, document.date)
    blocks = ["# Acceptance by class and lookahead", ", ".join(escaped(each) for each in about if each)]
    blocks.append(escaped(document.what))
    if document.acceptance is not None:
        blocks += [_grid(grid) for grid in grids(document.acceptance)]
    blocks += ["## Notes", bullets([escaped(each) for each in notes(document)])]
    known = [(escaped(name), escaped(value)) for name, value in facts(document).items()]
    blocks += ["## Where the figures come from", table(("", ""), known, numbers=False)]
    blocks += ["## To measure it again", script(commands(document))]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _grid(grid: Grid) -> str:
    rows = [[escaped(value) for value in row] for section in grid.sections for row in section]
    title = escaped(grid.title[:1].upper() + grid.title[1:])
    parts = [f"## {title}", table([escaped(head) for head in grid.heads], rows), escaped(grid.note)]
    return "\n\n".join(part for part in parts if part)
