"""Sentences made from a result's numbers: what the levers did."""

from __future__ import annotations

from collections.abc import Sequence

from llamacpp_tools.results.compare import PAIRS
from llamacpp_tools.results.groups import Group, groups
from llamacpp_tools.results.levers import lift, stacked, tax
from llamacpp_tools.results.schema import Cell, Comparison, Mode
from llamacpp_tools.results.words import some

# Prefill matters where a lever changes it: the window bounds it, the draft head adds to it.
_PREFILL_GAIN: tuple[tuple[Mode, Mode], ...] = (("swa", "dense"),)
_PREFILL_TAX: tuple[tuple[Mode, Mode], ...] = (("mtp", "dense"), ("swa+mtp", "swa"))


def findings(cells: Sequence[Cell], comparisons: Sequence[Comparison]) -> list[str]:
    """What the numbers show, one sentence each: where which lever pays, then a 2x2 after the other.

    Confounded comparisons say nothing here; the caveats name them.
    """
    found = groups(cells)
    sentences = [text for pair in PAIRS for text in _where(pair, found, comparisons)]
    for group in found:
        of_group = _of(group, comparisons)
        sentences += [text for pair, each in of_group.items() if (text := _gain(group, pair, each))]
        sentences += _stack(group) + _acceptance(group) + _memory(group) + _steered(group)
    return list(dict.fromkeys(sentences))


def _where(pair: tuple[Mode, Mode], found: Sequence[Group], comparisons: Sequence[Comparison]) -> list[str]:
    """Where one mode is faster than another, over the whole result; nothing where there is one place only."""
    places: dict[str, Comparison] = {}
    for group in found:
        item = _of(group, comparisons).get(("decode_tps", *pair))
        if item is not None:
            places[group.label_of(*pair)] = item
    if len(places) < 2:
        return []
    parts = []
    for word, wanted in (("faster", True), ("slower", False), ("not shown to differ", None)):
        names = [place for place, item in places.items() if _faster(item) is wanted]
        if names:
            parts.append(f"{word} in {len(names)} of {len(places)} ({some(names)})")
    single = ", by single figures" if all(item.interval is None for item in places.values()) else ""
    return [f"Decode of {pair[0]} against {pair[1]}{single}: {', '.join(parts)}."]


def _steered(group: Group) -> list[str]:
    """What an automatic draft length chose, and how far it stayed behind the best fixed one by its own steps."""
    found = []
    for mode, cell in group.cells.items():
        steering = cell.steering
        if steering is None:
            continue
        longest = sorted(steering.time_share.items(), key=lambda item: -item[1])[:3]
        shares = ", ".join(f"{share:.0%} with {length}" for length, share in longest)
        hindsight = ""
        if steering.regret is not None:
            where = "behind" if steering.regret >= 0 else "ahead of"
            best = f"drafts of {steering.best_fixed} throughout, by the times and outcomes of its own steps"
            hindsight = f"; {abs(steering.regret):.1%} {where} {best}"
        place = group.label_of(mode)
        found.append(f"At {place}, the automatic length of {mode} spent {shares} drafted{hindsight}.")
    return found


def _faster(item: Comparison) -> bool | None:
    if item.verdict == "no difference shown" or item.ratio == 1:
        return None
    return item.ratio > 1


def _of(group: Group, comparisons: Sequence[Comparison]) -> dict[tuple[str, Mode, Mode], Comparison]:
    ids = {cell.id for cell in group.cells.values()}
    return {
        (item.metric, item.mode, item.to_mode): item
        for item in comparisons
        if item.cell in ids and item.to in ids and not item.confounded
    }


def _gain(group: Group, key: tuple[str, Mode, Mode], found: Comparison) -> str | None:
    metric, mode, to_mode = key
    start = f"At {group.label_of(mode, to_mode)}, {mode}"
    if metric == "prefill_tps":
        if (mode, to_mode) in _PREFILL_TAX:
            return _tax(start, found)
        if (mode, to_mode) not in _PREFILL_GAIN:
            return None
    verb = "decode" if metric == "decode_tps" else "prefill"
    if found.verdict == "no difference shown":
        return f"{start} is not shown to {verb} at another speed than {to_mode} ({_span(found)})."
    return f"{start} {verb}s {found.ratio:.2f} times as fast as {to_mode} ({_span(found)})."


def _tax(start: str, found: Comparison) -> str:
    """What the draft head costs of the prefill, in per cent of the speed without it."""
    cost = tax(found)
    if found.interval is None:
        span = _source(found)
    else:
        low, high = 1 - found.interval[1], 1 - found.interval[0]
        span = f"{found.level:.0%} interval {low:.1%} to {high:.1%}, {found.rounds} rounds"
    if found.verdict == "no difference shown":
        return f"{start} is not shown to prefill at another speed than {found.to_mode}: it costs {cost:.1%} ({span})."
    word = "costs" if cost >= 0 else "gains"
    return f"{start} {word} {abs(cost):.1%} of the prefill speed of {found.to_mode} ({span})."


def _span(found: Comparison) -> str:
    if found.interval is None:
        return _source(found)
    low, high = found.interval
    return f"{found.level:.0%} interval {low:.2f} to {high:.2f}, {found.rounds} rounds"


def _source(found: Comparison) -> str:
    return "one round" if found.rounds else "published, without its rounds"


def _stack(group: Group) -> list[str]:
    found = stacked(group)
    if found is None:
        return []
    both = f"the two levers together give {found.both:.2f}, the window alone {found.swa:.2f}, the draft {found.mtp:.2f}"
    if found.interval is not None:
        low, high = found.interval
        span = f"95% interval {low:.2f} to {high:.2f}, {found.rounds} rounds"
    else:
        span = "one round" if found.rounds else "published, without its rounds"
    words = {
        "more": "super-additive: more than the two multiply to",
        "less": "sub-additive: less than the two multiply to",
        "not shown": "not shown to be more or less than the two multiply to",
    }
    return [f"At {group.label}, {both}; {words[found.direction]}, {found.ratio:.2f} times that ({span})."]


def _acceptance(group: Group) -> list[str]:
    found = lift(group)
    if found is None:
        return []
    start = f"At {group.label_of('mtp', 'swa+mtp')}, "
    if round(found.without, 3) == round(found.with_window, 3):
        return [f"{start}draft acceptance is {found.without:.3f} with and without the window."]
    numbers = f"from {found.without:.3f} to {found.with_window:.3f}"
    if found.interval is None:
        span = "single figures, no interval"
    else:
        low, high = found.interval
        span = f"{found.difference:+.3f}, 95% interval over the steps {low:+.3f} to {high:+.3f}"
    if found.direction == "not shown":
        return [f"{start}the window is not shown to change draft acceptance, {numbers} ({span})."]
    return [
        f"{start}the window {'raises' if found.direction == 'more' else 'lowers'} draft acceptance {numbers} ({span})."
    ]


def _memory(group: Group) -> list[str]:
    dense, swa = group.cells.get("dense"), group.cells.get("swa")
    if dense is None or swa is None or not dense.kv_bytes or not swa.kv_bytes:
        return []
    if dense.status != "ok" or swa.status != "ok" or swa.kv_bytes >= dense.kv_bytes:
        return []
    share = swa.kv_bytes / dense.kv_bytes
    return [
        f"At {group.label_of('dense', 'swa')}, the window holds {swa.kv_bytes / 2**20:.1f} MiB of KV cache instead of "
        f"{dense.kv_bytes / 2**20:.1f} MiB, {share:.0%}."
    ]
