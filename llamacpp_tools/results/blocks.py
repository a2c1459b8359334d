"""One block per depth in the form of the first published result: `depth_2x2_123k: {dense_only: ...}`."""

from __future__ import annotations

from collections.abc import Sequence

from llamacpp_tools.results.groups import Group, groups
from llamacpp_tools.results.schema import BLOCK_PREFIX, BlockRow, Cell, DepthBlock, Mode

ROWS: dict[Mode, str] = {
    "dense": "dense_only",
    "swa": "swa_only",
    "mtp": "dense_mtp",
    "swa+mtp": "mtp_plus_swa",
}


def depth_blocks(cells: Sequence[Cell]) -> dict[str, DepthBlock]:
    """A block for each 2x2 of `cells`.

    The key holds the depth (`123k`, or the whole number where two would look the same), the workload if
    the result has more than one, and the values of whatever else varies.
    """
    found = groups(cells)
    labels = _depth_labels(sorted({group.n_depth for group in found}))
    several = len({group.workload for group in found}) > 1
    blocks: dict[str, DepthBlock] = {}
    for group in found:
        workload = f"_{_as_key(group.workload)}" if several else ""
        key = f"{BLOCK_PREFIX}{labels[group.n_depth]}{workload}{_as_key(group.suffix)}"
        blocks[key] = _block(group)
    return blocks


def _block(group: Group) -> DepthBlock:
    rows = {ROWS[mode]: _row(cell) for mode, cell in group.cells.items()}
    return DepthBlock(note=_note(group), **rows)


def _row(cell: Cell) -> BlockRow:
    # Figures of a cell that is not ok stay in its own row of the document, where its reason stands beside.
    usable = cell.status == "ok"
    return BlockRow(
        prefill_tps=_rounded(cell.prefill_tps, 1) if usable else None,
        decode_tps=_rounded(cell.decode_tps, 2) if usable else None,
        acceptance=_rounded(cell.acceptance, 3) if usable else None,
        accepted=cell.accepted if usable else None,
        drafted=cell.drafted if usable else None,
        distinct_word_ratio=_rounded(cell.distinct_word_ratio, 2) if usable else None,
        crashed=cell.status == "crashed",
    )


def _note(group: Group) -> str:
    any_cell = next(iter(group.cells.values()))
    ends = "ignore_eos" if any_cell.ignore_eos else "until the text ends"
    parts = [
        f"n_prompt={group.n_depth}, {group.workload}, greedy, n_predict={any_cell.n_predict} {ends}",
        f"{any_cell.type_k}/{any_cell.type_v} KV, n_ubatch {any_cell.n_ubatch}",
    ]
    sliding = group.cells.get("swa") or group.cells.get("swa+mtp")
    if sliding is not None:
        full = ",".join(str(layer) for layer in sliding.full_layers or ()) or "none"
        parts.append(f"window {sliding.window}, full layers {full}")
    drafting = group.cells.get("mtp") or group.cells.get("swa+mtp")
    if drafting is not None:
        parts.append(f"n_max {drafting.n_max}, p_min {drafting.p_min:g}")
    return "; ".join(parts)


def _depth_labels(depths: Sequence[int]) -> dict[int, str]:
    short = {depth: f"{depth // 1000}k" if depth >= 1000 else str(depth) for depth in depths}
    names = list(short.values())
    return {depth: name if names.count(name) == 1 else str(depth) for depth, name in short.items()}


def _as_key(text: str) -> str:
    return "".join(char if char.isalnum() or char in "_.,+-" else "-" for char in text if char.isascii())


def _rounded(value: float | None, digits: int) -> float | None:
    return round(value, digits) if value is not None else None
