"""Why a machine is slower than it was, as far as two results of the same short matrix can tell.

Everything here is said of two documents: `then`, the baseline, and `now`. A cause is `shown` where something was
measured that slows a machine down, or where the old library was measured beside the new one; `possible` where
something merely differs; `ruled out` where a measurement speaks against it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ValidationError

from llamacpp_tools.results import statistics
from llamacpp_tools.results.across import FAIL_OVER, Across, Ratio, across
from llamacpp_tools.results.caveats import BUSY_ABOVE, NEIGHBOURS_ABOVE
from llamacpp_tools.results.compare import METRICS, Metric, by_round
from llamacpp_tools.results.origins import Difference
from llamacpp_tools.results.schema import Document, Sample
from llamacpp_tools.results.yardstick import Yardstick

CauseName = Literal["heat", "clock", "neighbours", "machine", "driver", "code"]
Weight = Literal["shown", "possible", "ruled out"]
Outcome = Literal["as fast", "faster", "slower", "failed"]

# A clock below this share of what it was slows a machine down; a chip so much hotter is hot.
CLOCK_BELOW = 0.97
HOTTER_BY_C = 5.0
YARDSTICK = "yardstick"
_OF_THE_MACHINE = (
    "driver",
    "kernel",
    "os",
    "device",
    "cpu_info",
    "gpu_info",
    "cpu_count",
    "memory_gib",
    "n_threads",
)
_VERBS: dict[Metric, str] = {"decode_tps": "decodes", "prefill_tps": "prefills"}


class Evidence(BaseModel):
    """What speaks for or against one cause."""

    cause: CauseName
    weight: Weight
    text: str


class Diagnosis(BaseModel):
    """What became of the machine since the baseline; `sentences` say it in prose, the verdict first."""

    outcome: Outcome
    slower: bool
    evidence: list[Evidence]
    changed_tokens: str | None
    sentences: list[str]
    across: Across


def diagnose(
    then: Document,
    now: Document,
    fail_over: float = FAIL_OVER,
    beside: tuple[Document, Document] | None = None,
) -> Diagnosis:
    """What `now` says against `then`.

    Args:
        then: the baseline.
        now: the same matrix, measured now.
        fail_over: the share by which it may be slower and still count as fast.
        beside: the baseline's library and the present one, measured in turns now; None where that was not done.
    """
    found = across(then, now, fail_over, ("the baseline", "now"))
    evidence = [*_heat(then, now), *_neighbours(then, now), *_machine(then, now, fail_over)]
    evidence += [*_driver(found.differences), *_code(found.differences, beside, fail_over)]
    outcome = _outcome(found, fail_over)
    changed = _changed(found, evidence)
    sentences = [_verdict(outcome, then, found)]
    if outcome in ("slower", "failed"):
        sentences += _causes(evidence) if outcome == "slower" else [_differs(evidence)]
    sentences += [changed] if changed else []
    return Diagnosis(
        outcome=outcome,
        slower=found.failed,
        evidence=evidence,
        changed_tokens=changed,
        sentences=[each for each in sentences if each],
        across=found,
    )


def code_differs(then: Document, now: Document) -> bool:
    """Whether the library itself is another one, so that the old one is worth measuring again."""
    ours, theirs = then.provenance.libllama_sha256, now.provenance.libllama_sha256
    same_stack = then.provenance.stack_head == now.provenance.stack_head
    return ours is not None and theirs is not None and (ours != theirs or not same_stack)


def _outcome(found: Across, fail_over: float) -> Outcome:
    if any(match.lost for match in found.matched):
        return "failed"
    if found.failed:
        return "slower"
    fast = [each for each in _spoken(found) if each.verdict == "faster" and each.ratio > 1 + fail_over]
    return "faster" if fast else "as fast"


def _spoken(found: Across) -> list[Ratio]:
    """One ratio for decode and one for prefill: over all cells, or that of the only cell."""
    every = [*found.overall, *(ratio for match in found.matched for ratio in match.ratios)]
    first = [next((each for each in every if each.metric == metric), None) for metric in METRICS]
    return [each for each in first if each is not None]


def _verdict(outcome: Outcome, then: Document, found: Across) -> str:
    start = f"the baseline of {then.date[:16].replace('T', ' ')}"
    if outcome == "failed":
        return f"Not every mode of {start} runs now: {found.regressions[0]}."
    words = {"as fast": "As fast as", "faster": "Faster than", "slower": "Slower than"}
    ratios = "; ".join(_times(each) for each in _spoken(found))
    worst = (
        "" if outcome != "slower" or any(each.regression for each in _spoken(found)) else found.regressions[0]
    )
    return f"{words[outcome]} {start}: {ratios}{'; ' * bool(worst)}{worst}."


def _times(ratio: Ratio) -> str:
    start = f"it {_VERBS[ratio.metric]} at {ratio.ratio:.2f} times the speed"
    if ratio.interval is None:
        return f"{start} (one round)"
    low, high = ratio.interval
    return f"{start} (95% interval {low:.2f} to {high:.2f})"


def _causes(evidence: Sequence[Evidence]) -> list[str]:
    """What is known of why, in prose."""
    shown = [each for each in evidence if each.weight == "shown"]
    possible = [each for each in evidence if each.weight == "possible"]
    against = [each for each in evidence if each.weight == "ruled out"]
    found = [f"{_NAMES[each.cause]}: {each.text}." for each in shown]
    if not shown and possible:
        cleared = {each.cause for each in against}
        only = len({each.cause for each in possible}) == 1 and {"neighbours", "machine"} <= cleared
        word = "Most likely" if only else "It may be"
        found += [f"{word} {_IN_WORDS[each.cause]}: {each.text}." for each in possible]
    elif shown and possible:
        found += [f"What may have its part in it: {each.text}." for each in possible]
    if not shown and not possible:
        same_code = any(each.cause == "code" for each in against)
        same = "." if same_code else ": library, driver, kernel and device are the same."
        found.append(f"Slower for no reason seen here{same}")
    found += [f"Not {_IN_WORDS[each.cause]}: {each.text}." for each in against]
    return found


def _differs(evidence: Sequence[Evidence]) -> str:
    known = [
        each.text for each in evidence if each.cause in ("driver", "code") and each.weight != "ruled out"
    ]
    return f"Since then: {'; '.join(known)}." if known else "Library, driver, kernel and device are the same."


_NAMES: dict[CauseName, str] = {
    "heat": "Heat",
    "clock": "A lower clock",
    "neighbours": "Neighbours",
    "machine": "The whole machine is slower",
    "driver": "Driver, system or device",
    "code": "The code",
}
_IN_WORDS: dict[CauseName, str] = {
    "heat": "heat",
    "clock": "the clock",
    "neighbours": "neighbours",
    "machine": "the machine as a whole",
    "driver": "the driver, the system or the device",
    "code": "the code",
}


def _heat(then: Document, now: Document) -> list[Evidence]:
    clocks = [statistics.median(_readings(each, "clock_mhz")) for each in (then, now)]
    hottest = [max(_readings(each, "temperature_c"), default=None) for each in (then, now)]
    hotter = None
    if hottest[0] is not None and hottest[1] is not None and hottest[1] >= hottest[0] + HOTTER_BY_C:
        hotter = f"the hottest chip is at {hottest[1]:.0f} °C, {hottest[0]:.0f} °C then"
    slow = sum(sample.throttled for sample in _samples(now))
    fell = f"the clock fell below nine tenths of the fastest round's in {slow} rounds" if slow else None
    lower = None
    if clocks[0] and clocks[1] and clocks[1] < CLOCK_BELOW * clocks[0]:
        lower = f"the clock is at {clocks[1]:,.0f} MHz, {clocks[0]:,.0f} MHz then"
    drop = lower or fell
    if drop and hotter:
        return [Evidence(cause="heat", weight="shown", text=f"{drop}, and {hotter}")]
    if drop:
        rest = "which may be heat that no sensor tells, a limit of power, or a setting"
        return [Evidence(cause="clock", weight="shown", text=f"{drop}, {rest}")]
    known = clocks[0] is not None and clocks[1] is not None
    if hotter:
        weight: Weight = "ruled out" if known else "possible"
        kept = ", but the clock is as high as it was" if known else ", and no clock can be read"
        return [Evidence(cause="heat", weight=weight, text=hotter + kept)]
    if known:
        return [
            Evidence(cause="heat", weight="ruled out", text=f"the clock is at {clocks[1]:,.0f} MHz as it was")
        ]
    return []


def _neighbours(then: Document, now: Document) -> list[Evidence]:
    taken = [
        statistics.median([s.other_cpu for s in _samples(each) if s.other_cpu is not None])
        for each in (then, now)
    ]
    before, after = taken
    if after is not None and after > NEIGHBOURS_ABOVE and after > (before or 0.0) + NEIGHBOURS_ABOVE:
        text = f"other programs took {after:.1f} CPUs in the middle round, {before or 0.0:.1f} then"
        return [Evidence(cause="neighbours", weight="shown", text=text)]
    load, count = now.provenance.load_average, now.provenance.cpu_count
    if after is None and load is not None and count and load > BUSY_ABOVE * count:
        text = f"the load was {load:.1f} on {count} CPU threads when it began"
        return [Evidence(cause="neighbours", weight="possible", text=text)]
    if after is not None:
        text = f"other programs took {after:.1f} CPUs in the middle round, {before or 0.0:.1f} then"
        return [Evidence(cause="neighbours", weight="ruled out", text=text)]
    return []


def _machine(then: Document, now: Document, fail_over: float) -> list[Evidence]:
    """The yardstick: what neither the library nor the model has a part in."""
    old, new = yardstick(then), yardstick(now)
    if old is None or new is None:
        return []
    pairs = {
        "one core hashes": statistics.unpaired(new.hash_mb_s, old.hash_mb_s),
        "memory is copied": statistics.unpaired(new.copy_gb_s, old.copy_gb_s),
    }
    known = {name: found for name, found in pairs.items() if found is not None and found.interval is not None}
    slow = [
        f"{name} at {found.ratio:.2f} times the speed"
        for name, found in known.items()
        if found.ratio < 1 - fail_over and found.interval is not None and found.interval[1] < 1
    ]
    if slow:
        text = f"without any model or library {' and '.join(slow)}"
        return [Evidence(cause="machine", weight="shown", text=text)]
    if not known:
        return []
    spans = ", ".join(f"{name} at {found.ratio:.2f} times the speed" for name, found in known.items())
    doubtful = any(found.ratio < 1 - fail_over for found in known.values())
    return [Evidence(cause="machine", weight="possible" if doubtful else "ruled out", text=spans)]


def _driver(differences: Sequence[Difference]) -> list[Evidence]:
    named = [_change(each) for each in differences if each.name in _OF_THE_MACHINE]
    return [Evidence(cause="driver", weight="possible", text="; ".join(named))] if named else []


def _code(
    differences: Sequence[Difference], beside: tuple[Document, Document] | None, fail_over: float
) -> list[Evidence]:
    named = [_change(each) for each in differences if each.kind == "code"]
    if beside is not None:
        ratios = {metric: _in_turns(metric, *beside) for metric in METRICS}
        known = {
            metric: found
            for metric, found in ratios.items()
            if found is not None and found.interval is not None
        }
        said = ", ".join(_beside(metric, found) for metric, found in known.items())
        # By its whole interval: of two libraries that are as fast one in twenty times an interval leaves out 1.
        slow = [each for each in known.values() if each.interval and each.interval[1] < 1 - fail_over]
        if slow:
            text = f"in turns with the baseline's library, now, the present one {said} ({'; '.join(named)})"
            return [Evidence(cause="code", weight="shown", text=text)]
        if known and all(each.interval and each.interval[0] > 1 - fail_over for each in known.values()):
            text = f"in turns with the baseline's library, now, the present one {said}"
            return [Evidence(cause="code", weight="ruled out", text=text)]
        if known:
            text = f"in turns with the baseline's library, now, the present one {said}, which shows nothing"
            return [Evidence(cause="code", weight="possible", text=text)]
    return [Evidence(cause="code", weight="possible", text="; ".join(named))] if named else []


def _beside(metric: Metric, found: statistics.Paired) -> str:
    low, high = found.interval or [found.ratio, found.ratio]
    return f"{_VERBS[metric]} at {found.ratio:.2f} times its speed (95% interval {low:.2f} to {high:.2f})"


def _in_turns(metric: Metric, old: Document, new: Document) -> statistics.Paired | None:
    """The present library over the old one: each round's mean over the cells, paired by round."""
    theirs = {cell.id: by_round(cell, metric) for cell in old.cells if cell.status == "ok"}
    pairs = [(theirs[cell.id], by_round(cell, metric)) for cell in new.cells if cell.id in theirs]
    rounds = set.intersection(*({*a} & {*b} for a, b in pairs)) if pairs else set()
    logs = [float(np.mean([np.log(b[at] / a[at]) for a, b in pairs])) for at in sorted(rounds)]
    return statistics.paired_logs(logs)


def _changed(found: Across, evidence: Sequence[Evidence]) -> str | None:
    other = [match for match in found.matched if match.tokens == "different"]
    if not other:
        return None
    why = [
        _IN_WORDS[each.cause]
        for each in evidence
        if each.cause in ("driver", "code") and each.weight != "ruled out"
    ]
    cause = f", since {' or '.join(why)} changed" if why else ", and nothing that was looked at has changed"
    return f"The tokens are other ones in {len(other)} of {len(found.matched)} modes{cause}."


def _change(each: Difference) -> str:
    """`driver is B, A then`; of long values only that they differ."""
    values = [str(value) for value in (each.a, each.b)]
    if any(isinstance(value, list | dict) for value in (each.a, each.b)) or max(map(len, values)) > 40:
        return f"{each.name} is another one"
    was, is_now = (value[:9] if len(value) == 40 else value for value in values)
    return f"{each.name} is {is_now}, {was} then"


def yardstick(document: Document) -> Yardstick | None:
    """What was measured beside the document's last run; None where nothing was, or it is no yardstick."""
    try:
        return Yardstick.model_validate(document.runs[-1][YARDSTICK])
    except (IndexError, KeyError, ValidationError):
        return None


def _samples(document: Document) -> list[Sample]:
    return [sample for cell in document.cells for sample in cell.samples]


def _other_cpu(document: Document) -> float | None:
    return statistics.median([each.other_cpu for each in _samples(document) if each.other_cpu is not None])


def _readings(document: Document, name: str) -> list[float]:
    heats = [sample.heat for sample in _samples(document) if sample.heat is not None]
    return [value for heat in heats for value in getattr(heat, name) if value is not None]
