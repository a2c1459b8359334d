"""The tables of `llt acceptance` as Markdown."""

from __future__ import annotations

from llamacpp_tools.acceptance.grids import grids
from llamacpp_tools.acceptance.notes import notes
from llamacpp_tools.report.facts import commands, facts
from llamacpp_tools.report.markdown import bullets, escaped, grid_table, script, table
from llamacpp_tools.results.schema import Document


def markdown(document: Document) -> str:
    """One page: what was measured, the tables, the notes, where the figures come from."""
    about = (document.model, document.box, document.backend, document.date)
    blocks = ["# Acceptance by class and lookahead", ", ".join(escaped(each) for each in about if each)]
    blocks.append(escaped(document.what))
    if document.acceptance is not None:
        blocks += [grid_table(grid) for grid in grids(document.acceptance)]
    blocks += ["## Notes", bullets([escaped(each) for each in notes(document)])]
    known = [(escaped(name), escaped(value)) for name, value in facts(document).items()]
    blocks += ["## Where the figures come from", table(("", ""), known, numbers=False)]
    blocks += ["## To measure it again", script(commands(document))]
    return "\n\n".join(block for block in blocks if block) + "\n"
