"""Sentences made from a result's numbers: what the levers did, and what speaks against relying on it."""

from __future__ import annotations

from collections.abc import Sequence

from llamacpp_tools.results.compare import confounded
from llamacpp_tools.results.groups import Group, groups
from llamacpp_tools.results.schema import Cell, Comparison, DepthStateCheck, Mode, Provenance
from llamacpp_tools.sweep.cell import pad_cells
from llamacpp_tools.sweep.config import BallastConfig, MiniatureModel, SweepConfig, SynthModel

FEW_ROUNDS = 5
# Share of the CPU threads that others may keep busy before it is said.
BUSY_ABOVE = 0.5
# CPUs that others may take during a round before it is said.
NEIGHBOURS_ABOVE = 0.2


def findings(cells: Sequence[Cell], comparisons: Sequence[Comparison]) -> list[str]:
    """What the numbers show, one sentence each, a 2x2 after the other; confounded comparisons say nothing."""
    sentences: list[str] = []
    for group in groups(cells):
        of_group = _of(group, comparisons)
        sentences += [_gain(group, found) for key, found in of_group.items() if _speaks(key, found)]
        sentences += _stack(group, of_group) + _acceptance(group) + _memory(group)
    return list(dict.fromkeys(sentences))


def caveats(
    cells: Sequence[Cell],
    comparisons: Sequence[Comparison],
    config: SweepConfig,
    provenance: Provenance,
    checked: DepthStateCheck | None = None,
) -> list[str]:
    """What a reader has to know before using the figures."""
    found = [f"{_name(cell)} is {cell.status}: {cell.reason}" for cell in cells if cell.status != "ok"]
    if config.workers == "kept":
        found.append(
            "All rounds of a cell ran in one process, whose memory stays where it came to lie: a small difference "
            "between two cells may be one between two processes."
        )
    if isinstance(config.model, SynthModel):
        found.append(
            "The model has random weights: its speeds and memory are those of its shape, its acceptance and "
            "its text are those of no real model."
        )
    if isinstance(config.model, MiniatureModel):
        found.append(
            "The model is the miniature that ships with llt: its text and acceptance are those of a small model on"
            " texts of the kinds it was trained on."
        )
        if config.model.miniature != BallastConfig():
            found.append(
                "Ballast makes each step cost what a larger dense model's costs; a mixture of experts pays more for a"
                " verification, since each token of it reads experts of its own."
            )
    least = min((len(cell.samples) for cell in cells if cell.status == "ok"), default=config.rounds)
    if least < FEW_ROUNDS:
        said = (
            "one round per cell there are no intervals"
            if least == 1
            else f"{least} rounds per cell intervals are rough"
        )
        found.append(f"With {said} and small differences may be chance.")
    found += _confounded(comparisons) + _unbounded(cells)
    found += _heat(cells) + _neighbours(cells) + _kept(cells, checked) + _apart(cells, comparisons)
    found += [f"{_name(cell)}: {note}." for cell in cells for note in cell.notes]
    load, count = provenance.load_average, provenance.cpu_count
    if load is not None and count is not None and load > BUSY_ABOVE * count:
        found.append(f"The machine was busy when the sweep began: load {load:.1f} on {count} CPU threads.")
    if provenance.checkout_dirty:
        found.append("llt ran from a checkout with changes that are not committed.")
    found.append("One model on one machine, a single stream with batch 1 and greedy decoding.")
    return list(dict.fromkeys(found))


def _of(group: Group, comparisons: Sequence[Comparison]) -> dict[tuple[str, Mode, Mode], Comparison]:
    ids = {cell.id for cell in group.cells.values()}
    return {
        (item.metric, item.mode, item.to_mode): item
        for item in comparisons
        if item.cell in ids and item.to in ids and not item.confounded
    }


def _speaks(key: tuple[str, Mode, Mode], found: Comparison) -> bool:
    metric, mode, to_mode = key
    if metric == "prefill_tps":
        # Prefill matters where a lever changes it: the window bounds it, the draft head adds to it.
        return (mode, to_mode) in {("swa", "dense"), ("mtp", "dense"), ("swa+mtp", "swa")}
    return found.ratio > 0


def _gain(group: Group, found: Comparison) -> str:
    verb = "decodes" if found.metric == "decode_tps" else "prefills"
    start = f"At {group.label}, {found.mode}"
    if found.interval is None:
        source = "one round" if found.rounds else "published, without its rounds"
        return f"{start} {verb} {found.ratio:.2f} times as fast as {found.to_mode} ({source})."
    low, high = found.interval
    span = f"{found.level:.0%} interval {low:.2f} to {high:.2f}, {found.rounds} rounds"
    if found.verdict == "no difference shown":
        return f"{start} is not shown to {verb[:-1]} at another speed than {found.to_mode} ({span})."
    return f"{start} {verb} {found.ratio:.2f} times as fast as {found.to_mode} ({span})."


def _stack(group: Group, of_group: dict[tuple[str, Mode, Mode], Comparison]) -> list[str]:
    parts: list[tuple[str, Mode, Mode]] = [
        ("decode_tps", "swa", "dense"),
        ("decode_tps", "mtp", "dense"),
        ("decode_tps", "swa+mtp", "dense"),
    ]
    if any(part not in of_group for part in parts):
        return []
    swa, mtp, both = (of_group[part].ratio for part in parts)
    word = "more than" if both > swa * mtp else "no more than"
    return [
        f"At {group.label}, the two levers together give {both:.2f}, {word} the {swa * mtp:.2f} that "
        f"{swa:.2f} for the window and {mtp:.2f} for the draft multiply to."
    ]


def _acceptance(group: Group) -> list[str]:
    mtp, both = group.cells.get("mtp"), group.cells.get("swa+mtp")
    if mtp is None or both is None or mtp.status != "ok" or both.status != "ok":
        return []
    if mtp.acceptance is None or both.acceptance is None or confounded(both, mtp):
        return []
    word = "raises" if both.acceptance > mtp.acceptance else "lowers"
    if round(both.acceptance, 3) == round(mtp.acceptance, 3):
        return [f"At {group.label}, draft acceptance is {mtp.acceptance:.3f} with and without the window."]
    return [
        f"At {group.label}, the window {word} draft acceptance from {mtp.acceptance:.3f} to "
        f"{both.acceptance:.3f}."
    ]


def _memory(group: Group) -> list[str]:
    dense, swa = group.cells.get("dense"), group.cells.get("swa")
    if dense is None or swa is None or not dense.kv_bytes or not swa.kv_bytes:
        return []
    if dense.status != "ok" or swa.status != "ok" or swa.kv_bytes >= dense.kv_bytes:
        return []
    share = swa.kv_bytes / dense.kv_bytes
    return [
        f"At {group.label}, the window holds {swa.kv_bytes / 2**20:.1f} MiB of KV cache instead of "
        f"{dense.kv_bytes / 2**20:.1f} MiB, {share:.0%}."
    ]


def _confounded(comparisons: Sequence[Comparison]) -> list[str]:
    pairs = [
        f"{item.mode} against {item.to_mode} at depth {item.n_depth} on {item.workload}"
        for item in comparisons
        if item.confounded and item.metric == "decode_tps"
    ]
    if not pairs:
        return []
    return [
        "Confounded, as the two texts are not equally varied and so not equally hard to draft for: "
        f"{'; '.join(dict.fromkeys(pairs))}."
    ]


def _unbounded(cells: Sequence[Cell]) -> list[str]:
    found = []
    for cell in cells:
        if cell.window is None or cell.n_ctx is None or cell.n_ubatch is None:
            continue
        if pad_cells(cell.window + cell.n_ubatch) >= cell.n_ctx:
            found.append(
                f"At depth {cell.n_depth} the window of {cell.window} saves no memory: a sliding layer keeps "
                f"window and n_ubatch ({cell.n_ubatch}) cells, which is the whole context."
            )
    return found


def _heat(cells: Sequence[Cell]) -> list[str]:
    measured = [cell for cell in cells if cell.samples]
    found = []
    if measured and all(cell.temperature_c_max is None for cell in measured):
        found.append("No temperature sensor could be read, so heat was neither logged nor gated on.")
    slow = [
        f"round {item.round} of {_name(cell)}" for cell in cells for item in cell.samples if item.throttled
    ]
    if slow:
        found.append(f"The clock was below nine tenths of the fastest round's in {_some(slow)}.")
    return found


def _neighbours(cells: Sequence[Cell]) -> list[str]:
    taken = [
        (item.other_cpu, f"round {item.round} of {_name(cell)}")
        for cell in cells
        for item in cell.samples
        if item.other_cpu is not None and item.other_cpu > NEIGHBOURS_ABOVE
    ]
    if not taken:
        return []
    most = max(cpus for cpus, _ in taken)
    return [
        f"Other programs took up to {most:.1f} CPUs in {_some([name for _, name in taken])}; threads that wait for one "
        "that has no core spin, so such a round may be far too slow."
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
            f"another cell or in an earlier sweep: {_some([_name(cell) for cell in alone])}."
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
        f"ratio: {_some(list(dict.fromkeys(pairs)))}."
    ]


def _some(names: Sequence[str]) -> str:
    shown = "; ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _name(cell: Cell) -> str:
    return f"{cell.mode} at depth {cell.n_depth} on {cell.workload}"
