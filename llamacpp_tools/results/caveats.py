"""Sentences made from a result that say what speaks against relying on it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from llamacpp_tools.results.asked import missing
from llamacpp_tools.results.groups import groups
from llamacpp_tools.results.schema import Cell, Comparison, DepthStateCheck, Document, Provenance
from llamacpp_tools.results.words import name, place, some
from llamacpp_tools.sweep.cell import cell_id, unbounded

FEW_ROUNDS = 5
# Of so many comparisons at 95 % one errs on average.
MANY_COMPARISONS = 20
# Share of the CPU threads that others may keep busy before it is said.
BUSY_ABOVE = 0.5
# Begins the sentence about cells that are not there.
ASKED_FOR = "Asked for and not in this result"
# CPUs that others may take during a round before it is said.
NEIGHBOURS_ABOVE = 0.2


def caveats(document: Document, comparisons: Sequence[Comparison]) -> list[str]:
    """What a reader has to know before using the figures.

    Args:
        document: cells, configuration and provenance count; what it holds of caveats does not.
        comparisons: of its cells.
    """
    cells = document.cells
    found = [f"{name(cell)} is {cell.status}: {cell.reason}" for cell in cells if cell.status != "ok"]
    found += _absent(document) + _of_the_model(document.config) + _rounds(document) + _many(comparisons)
    found += _confounded(comparisons) + _depth_or_text(cells) + _diverged(cells)
    found += list(filter(None, map(unbounded, cells)))
    found += _heat(cells) + _neighbours(cells) + _kept(cells, document.depth_state_check)
    found += _apart(cells, comparisons)
    found += [f"{name(cell)}: {note}." for cell in cells for note in cell.notes]
    found += _of_the_machine(document.provenance) if not document.boxes else []
    for each in document.boxes:
        found += [f"On the box {each.name}: {text}" for text in _of_the_machine(each.provenance)]
    found += _over_servers(cells)
    machines = "one machine" if len(document.boxes) < 2 else f"{len(document.boxes)} machines"
    where = "over several machines or processes" if any(cell.rpc for cell in cells) else f"on {machines}"
    found.append(f"One model {where}, a single stream with batch 1 and greedy decoding.")
    return list(dict.fromkeys(found))


def _absent(document: Document) -> list[str]:
    """What was asked for, or stands beside it elsewhere in the result, and is not there."""
    found = []
    if document.status == "started":
        found.append("The sweep has not come to its end.")
    lacking = [cell_id(spec) for spec in missing(document)]
    if lacking:
        found.append(f"{ASKED_FOR}: {some(lacking)}.")
    if document.provenance.source != "published":
        return found
    every = [
        mode for mode in ("dense", "swa", "mtp", "swa+mtp") if any(c.mode == mode for c in document.cells)
    ]
    for group in groups(document.cells):
        absent = [mode for mode in every if mode not in group.cells]
        if absent:
            found.append(f"At {group.label} there is no figure for {' and '.join(absent)}.")
    unfilled = [place(cell) for cell in document.cells if cell.status == "ok" and cell.prefill_tps is None]
    if unfilled:
        found.append(f"No prefill speed is published at {'; '.join(dict.fromkeys(unfilled))}.")
    unknown = [place(cell) for cell in document.cells if cell.n_prompt is None]
    if unknown:
        found.append(
            "How long the prompt was in tokens is not published, so the depth is only about right, at "
            f"{'; '.join(dict.fromkeys(unknown))}."
        )
    return found


def _of_the_model(config: dict[str, Any]) -> list[str]:
    found = []
    if config.get("workers") == "kept":
        found.append(
            "All rounds of a cell ran in one process, whose memory stays where it came to lie: a small difference "
            "between two cells may be one between two processes."
        )
    model = config.get("model")
    if isinstance(model, dict) and "synth" in model:
        found.append(
            "The model has random weights: its speeds and memory are those of its shape, its acceptance and "
            "its text are those of no real model."
        )
    if isinstance(model, dict) and "miniature" in model:
        found.append(
            "The model is the miniature that ships with llt: its text and acceptance are those of a small model on"
            " texts of the kinds it was trained on."
        )
        if any((model["miniature"] or {}).values()):
            found.append(
                "Ballast makes each step cost what a larger dense model's costs; a mixture of experts pays more for a"
                " verification, since each token of it reads experts of its own."
            )
    return found


def _rounds(document: Document) -> list[str]:
    if document.provenance.source == "published" and not any(cell.samples for cell in document.cells):
        return [
            "Published as single figures: how many rounds stand behind them, and how they spread, is not known."
        ]
    counts = [len(cell.samples) for cell in document.cells if cell.status == "ok"]
    least = min(counts, default=FEW_ROUNDS)
    if least >= FEW_ROUNDS:
        return []
    said = (
        "one round per cell there are no intervals"
        if least == 1
        else f"{least} rounds per cell intervals are rough"
    )
    return [f"With {said} and small differences may be chance."]


def _many(comparisons: Sequence[Comparison]) -> list[str]:
    count = sum(item.verdict is not None for item in comparisons)
    if count < MANY_COMPARISONS:
        return []
    level = max(item.level for item in comparisons)
    return [
        f"{count} comparisons have an interval at {level:.0%} each: of so many equal pairs about "
        f"{count * (1 - level):.0f} would be called different by chance."
    ]


def _depth_or_text(cells: Sequence[Cell]) -> list[str]:
    """Workloads that share no depth: what differs between them may be either."""
    depths: dict[str, set[int]] = {}
    for cell in cells:
        depths.setdefault(cell.workload, set()).add(cell.n_depth)
    apart = [f"{a} and {b}" for a, b in itertools.combinations(depths, 2) if not depths[a] & depths[b]]
    if not apart:
        return []
    return [
        f"Measured at no common depth, so that depth and text cannot be told apart between them: {'; '.join(apart)}."
    ]


def _diverged(cells: Sequence[Cell]) -> list[str]:
    return [
        f"The text of {name(cell)} leaves that of its reference at token {cell.first_divergence}, so the two may not "
        "be equally hard to draft for."
        for cell in cells
        if cell.status == "ok" and cell.first_divergence is not None
    ]


def _over_servers(cells: Sequence[Cell]) -> list[str]:
    servers = dict.fromkeys(server for cell in cells for server in cell.rpc)
    if not servers:
        return []
    return [
        f"Layers lay on RPC servers ({some(list(servers))}): those figures hold for these machines and the network "
        "between them, and heat and neighbours were watched on the machine of the sweep alone. A server on that "
        "machine counts as a neighbour."
    ]


def _of_the_machine(known: Provenance) -> list[str]:
    found = []
    load, count = known.load_average, known.cpu_count
    if load is not None and count is not None and load > BUSY_ABOVE * count:
        found.append(f"The machine was busy when the sweep began: load {load:.1f} on {count} CPU threads.")
    if known.checkout_dirty:
        found.append("llt ran from a checkout with changes that are not committed.")
    return found


def _confounded(comparisons: Sequence[Comparison]) -> list[str]:
    pairs = [
        f"{item.mode} against {item.to_mode} at depth {item.n_depth} on {item.workload} ({item.ratio - 1:+.1%})"
        for item in comparisons
        if item.confounded and item.metric == "decode_tps"
    ]
    if not pairs:
        return []
    return [
        "Confounded and set aside, as the two texts are not equally varied, or not known to be, and so not equally "
        "hard to draft for: "
        f"{'; '.join(dict.fromkeys(pairs))}."
    ]


def _heat(cells: Sequence[Cell]) -> list[str]:
    measured = [cell for cell in cells if cell.samples]
    found = []
    if measured and all(cell.temperature_c_max is None for cell in measured):
        found.append("No temperature sensor could be read, so heat was neither logged nor gated on.")
    slow = [
        f"round {item.round} of {name(cell)}" for cell in cells for item in cell.samples if item.throttled
    ]
    if slow:
        found.append(f"The clock was below nine tenths of the fastest round's in {some(slow)}.")
    return found


def _neighbours(cells: Sequence[Cell]) -> list[str]:
    taken = [
        (item.other_cpu, f"round {item.round} of {name(cell)}")
        for cell in cells
        for item in cell.samples
        if item.other_cpu is not None and item.other_cpu > NEIGHBOURS_ABOVE
    ]
    if not taken:
        return []
    most = max(cpus for cpus, _ in taken)
    return [
        f"Other programs took up to {most:.1f} CPUs in {some([name for _, name in taken])}; threads that wait for one "
        "that has no core spin, so such a round may be far too slow. End what runs beside it, or leave it a core: "
        "`context: {threads: N}` with a smaller N."
    ]


def _kept(cells: Sequence[Cell], checked: DepthStateCheck | None) -> list[str]:
    if not any(item.filled == "restored" for cell in cells for item in cell.samples):
        return []
    found = ["Rounds that say `restored` began with a kept prefill; a prefill speed is that of a true one."]
    alone = [
        cell for cell in cells if cell.samples and all(item.filled == "restored" for item in cell.samples)
    ]
    if alone:
        found.append(
            "The prefill speed of a cell whose rounds all restored a kept prefill was measured when that was made, by "
            f"another cell or in an earlier sweep: {some([name(cell) for cell in alone])}."
        )
    if checked is not None:
        same = "the same tokens" if checked.first_divergence is None else (
            f"other tokens from position {checked.first_divergence}"
        )  # fmt: skip
        found.append(
            f"A restored prefill was checked against a true one: {same}, decode speed {checked.decode_ratio:.3f} of it."
        )
    return found


def _apart(cells: Sequence[Cell], comparisons: Sequence[Comparison]) -> list[str]:
    attempts = {cell.id: {item.round: item.attempt for item in cell.samples} for cell in cells}
    pairs = [
        f"{item.mode} against {item.to_mode} at depth {item.n_depth} on {item.workload}"
        for item in comparisons
        if any(attempts[item.to].get(at, run) != run for at, run in attempts[item.cell].items())
    ]
    if not pairs:
        return []
    return [
        "Some rounds that are paired were measured in different runs of the sweep, so the machine's state is in their "
        f"ratio: {some(list(dict.fromkeys(pairs)))}."
    ]
