"""What a reader of the lab's tables should know, in sentences made from the result."""

from __future__ import annotations

from llamacpp_tools.acceptance.lab import class_of
from llamacpp_tools.advise.costs import of_break_evens
from llamacpp_tools.engine.trace import replay
from llamacpp_tools.results.lookahead import ClassLookahead, Lookahead, Return
from llamacpp_tools.results.schema import Cell, Document
from llamacpp_tools.sweep.cell import uses_mtp


def notes(document: Document) -> list[str]:
    """Failures, whether the texts are those of plain decode, switches, truly verified drafts, then the caveats."""
    found = document.acceptance
    if found is None:
        return list(document.caveats)
    return [
        *(f"{each.name}: {each.reason}" for each in found.classes if each.reason),
        *_same(found),
        *_switches(found),
        *_forced(document),
        *_verified(document, found),
        *of_break_evens(_break_evens(found)),
        *document.caveats,
    ]


def _same(found: Lookahead) -> list[str]:
    told = [each for each in found.classes if each.runs]
    same = [each for each in told if each.first_divergence is None]
    if not told:
        return []
    if len(same) == len(told):
        return ["Watching changed no text: every token is that of plain decode without MTP."]
    apart = ", ".join(f"{each.name} from token {each.first_divergence}" for each in told if each not in same)
    return [f"Watched texts leave those of plain decode: {apart}."]


def _switches(found: Lookahead) -> list[str]:
    said = []
    if not found.draft_history:
        said.append("Each draft began with an empty cache of the MTP block, so it saw its own pair alone.")
    if found.hidden_row == "before-norm":
        said.append(
            "Drafts were made from the hidden row before the final norm, which llama.cpp does not give: its row, which "
            "stands after the norm, with the norm's weights divided out."
        )
    if said:
        said.append("What a step costs was measured with the usual drafts.")
    return said


def _forced(document: Document) -> list[str]:
    failed = [cell for cell in document.cells if cell.forced and cell.status != "ok"]
    return [f"What a step costs is not known: {cell.status}: {cell.reason}" for cell in failed]


def _verified(document: Document, found: Lookahead) -> list[str]:
    said = []
    for cell in document.cells:
        if not uses_mtp(cell.mode) or not cell.has_speed or cell.status != "ok" or not cell.n_max:
            continue
        told = next((each for each in found.classes if each.workload == cell.workload and each.runs), None)
        if told is not None:
            said.append(_against(cell, told))
    return said


def _break_evens(found: Lookahead) -> list[float]:
    returns = (row for each in found.classes for row in each.returns if row.n_max == each.best)
    return [row.break_even for row in returns if row.break_even is not None]


def _against(cell: Cell, told: ClassLookahead) -> str:
    replayed = replay(told.runs, cell.n_max or 0)
    expected = next((row for row in told.returns if row.n_max == cell.n_max), None)
    foretold = sum(replayed.accepted) / max(1, sum(replayed.drafted))
    speed = _speed(cell, told, expected)
    return (
        f"{_contradicted(cell, told)}{class_of(cell.workload)}, truly verified in drafts of {cell.n_max}: "
        f"acceptance {cell.acceptance or 0:.3f}, "
        f"{foretold:.3f} from the trace{speed}."
    )


def _contradicted(cell: Cell, told: ClassLookahead) -> str:
    if not cell.decode_tps or not told.plain_tps:
        return ""
    pays = cell.decode_tps > told.plain_tps
    if told.best != cell.n_max or told.verdict != ("does not pay" if pays else "pays"):
        return ""
    return f"The verdict on {class_of(cell.workload)} does not hold: "


def _speed(cell: Cell, told: ClassLookahead, expected: Return | None) -> str:
    if expected is None or expected.gain is None or not cell.decode_tps or not told.plain_tps:
        return ""
    return (
        f"; {cell.decode_tps / told.plain_tps - 1:+.1%} over plain decode, {expected.gain - 1:+.1%} foretold"
    )
