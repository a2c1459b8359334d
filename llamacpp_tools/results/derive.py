"""What follows from a result's cells: comparisons, findings and caveats, from the document alone."""

from __future__ import annotations

from typing import NamedTuple

from llamacpp_tools.results import boxes
from llamacpp_tools.results.caveats import caveats
from llamacpp_tools.results.compare import compare
from llamacpp_tools.results.findings import findings
from llamacpp_tools.results.schema import Comparison, Document


class Derived(NamedTuple):
    """All that a document says beside what was measured."""

    comparisons: list[Comparison]
    findings: list[str]
    caveats: list[str]


def derive(document: Document) -> Derived:
    """Comparisons and sentences of `document`, just measured, read from a file, or published.

    What it holds of them already is not looked at.
    """
    comparisons = compare(document.cells)
    found = findings(document.cells, comparisons) + boxes.sentences(document)
    return Derived(comparisons, found, caveats(document, comparisons))
