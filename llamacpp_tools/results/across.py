"""Two result files against each other: is B slower than A, and can the two be compared at all?

The rounds of two files were not measured side by side, so they are not paired: a ratio's interval is Welch's, on the
logarithms of the rounds' speeds. It knows how rounds spread within a run and not how runs differ from each other. As
several cells are compared, the verdict on each is adjusted for their number (Holm), and the geometric mean over all of
them stands beside, which shows a change common to all cells that no single one shows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel

from llamacpp_tools.results import statistics
from llamacpp_tools.results.asked import missing
from llamacpp_tools.results.caveats import NEIGHBOURS_ABOVE
from llamacpp_tools.results.cells import bare_id
from llamacpp_tools.results.compare import METRICS, Metric, by_round
from llamacpp_tools.results.groups import Key
from llamacpp_tools.results.origins import Difference, differences
from llamacpp_tools.results.schema import Cell, Document, Interval, Mode, Verdict
from llamacpp_tools.results.words import some
from llamacpp_tools.sweep.cell import cell_id
from llamacpp_tools.sweep.validity import first_difference

FAIL_OVER = 0.03
_PARAMETERS = (
    "mode", "n_depth", "workload", "n_ubatch", "n_batch", "type_k", "type_v", "flash_attn", "n_gpu_layers", "threads",
    "rpc", "window", "full_layers", "n_max", "auto", "p_min", "n_predict", "ignore_eos",
)  # fmt: skip

APART = (
    "The two were not measured side by side: each ratio also holds what the machine's state did between the runs, "
    "which no interval here knows."
)


class Ratio(BaseModel):
    """B's speed over A's, in one cell or over all.

    `interval` and `p_value` are Welch's, null where a side has fewer than two rounds; `adjusted` is the p-value after
    Holm, and the verdict follows from it. `rounds` are A's and B's.
    """

    metric: Metric
    a: float | None
    b: float | None
    ratio: float
    interval: Interval | None
    p_value: float | None
    adjusted: float | None = None
    verdict: Verdict | None = None
    rounds: tuple[int, int]
    regression: bool = False


class Match(BaseModel):
    """One cell that both results have. `first_divergence` is where their tokens part, null where they do not."""

    cell: str
    mode: Mode
    n_depth: int
    workload: str
    status_a: str
    status_b: str
    reason_b: str | None
    ratios: list[Ratio]
    acceptance_a: float | None
    acceptance_b: float | None
    tokens: Literal["same", "different", "unknown"]
    first_divergence: int | None
    kv_bytes_a: int | None
    kv_bytes_b: int | None
    lost: bool


class Across(BaseModel):
    """The whole comparison. `regressions` are why it fails; `doubtful` are what may be one and is not shown to be."""

    schema_version: Literal[1] = 1
    a: str
    b: str
    fail_over: float
    level: float = statistics.LEVEL
    differences: list[Difference]
    warnings: list[str]
    overall: list[Ratio]
    matched: list[Match]
    only_a: list[str]
    only_b: list[str]
    compared: int
    regressions: list[str]
    doubtful: list[str]
    notes: list[str]

    @property
    def failed(self) -> bool:
        """Whether B is shown to be worse than A."""
        return bool(self.regressions)


def across(
    a: Document, b: Document, fail_over: float = FAIL_OVER, names: tuple[str, str] = ("A", "B")
) -> Across:
    """B against A.

    Args:
        a: what B is held against.
        b: the newer one, mostly.
        fail_over: the share by which B may be slower and still pass; a greater loss that the interval shows is a
            regression.
        names: of the two, for people.

    Where each box of both measured everything (`everywhere`), a box is held against itself.
    """
    by_box = everywhere(a) and everywhere(b)
    ours, theirs = _by_parameters(a.cells, by_box), _by_parameters(b.cells, by_box)
    pairs = [(ours[key], theirs[key]) for key in ours if key in theirs]
    matched = _judged([_match(*pair) for pair in pairs], fail_over)
    overall = [ratio for metric in METRICS if (ratio := _overall(metric, pairs, fail_over)) is not None]
    found = differences(a, b)
    return Across(
        a=names[0],
        b=names[1],
        fail_over=fail_over,
        differences=found,
        warnings=_warnings(found) + _not_alone(a, b),
        overall=overall,
        matched=matched,
        only_a=[cell.id for key, cell in ours.items() if key not in theirs],
        only_b=[cell.id for key, cell in theirs.items() if key not in ours],
        compared=sum(len(match.ratios) for match in matched),
        regressions=_regressions(matched, overall) + _gone(a, b, by_box),
        doubtful=_doubtful(matched, fail_over),
        notes=_notes(a, b, matched),
    )


def everywhere(document: Document) -> bool:
    """Whether several boxes measured the same cells (`place: each`), so that a cell is told by its box, too."""
    return document.config.get("place") == "each" and len(document.boxes) > 1


def _by_parameters(cells: Sequence[Cell], by_box: bool) -> dict[Key, Cell]:
    found: dict[Key, Cell] = {}
    names = (*_PARAMETERS, "box") if by_box else _PARAMETERS
    for cell in cells:
        if cell.has_speed:
            values = [getattr(cell, name) for name in names]
            found.setdefault(tuple(tuple(v) if isinstance(v, list) else v for v in values), cell)
    return found


def _match(a: Cell, b: Cell) -> Match:
    both = a.status == "ok" and b.status == "ok"
    ratios = [_ratio(metric, a, b) for metric in METRICS] if both else []
    at = None
    tokens: Literal["same", "different", "unknown"] = "unknown"
    if a.output_sha256 and b.output_sha256:
        tokens = "same" if a.output_sha256 == b.output_sha256 else "different"
        at = first_difference(a.output_tokens or [], b.output_tokens or []) if tokens == "different" else None
    return Match(
        cell=b.id,
        mode=b.mode,
        n_depth=b.n_depth,
        workload=b.workload,
        status_a=a.status,
        status_b=b.status,
        reason_b=b.reason,
        ratios=[each for each in ratios if each is not None],
        acceptance_a=a.acceptance,
        acceptance_b=b.acceptance,
        tokens=tokens,
        first_divergence=at,
        kv_bytes_a=a.kv_bytes,
        kv_bytes_b=b.kv_bytes,
        lost=a.status == "ok" and b.status != "ok",
    )


def _ratio(metric: Metric, a: Cell, b: Cell) -> Ratio | None:
    ours, theirs = _speeds(a, metric), _speeds(b, metric)
    found = statistics.unpaired(theirs, ours)
    # Published figures have no rounds, and a prefill may have been kept from elsewhere: one number a side.
    slow = statistics.median(ours) or getattr(a, metric)
    fast = statistics.median(theirs) or getattr(b, metric)
    if not slow or not fast:
        return None
    return Ratio(
        metric=metric,
        a=slow,
        b=fast,
        ratio=found.ratio if found else fast / slow,
        interval=found.interval if found else None,
        p_value=found.p_value if found else None,
        rounds=(len(ours), len(theirs)),
    )


def _speeds(cell: Cell, metric: Metric) -> list[float]:
    return list(by_round(cell, metric).values())


def _judged(matched: Sequence[Match], fail_over: float) -> list[Match]:
    """The matches with each verdict adjusted for how many there are."""
    known = [ratio for match in matched for ratio in match.ratios if ratio.p_value is not None]
    adjusted = iter(statistics.holm([ratio.p_value or 0.0 for ratio in known]))
    return [
        match.model_copy(
            update={
                "ratios": [
                    _with_verdict(ratio, next(adjusted), fail_over) if ratio.p_value is not None else ratio
                    for ratio in match.ratios
                ]
            }
        )
        for match in matched
    ]


def _with_verdict(ratio: Ratio, adjusted: float, fail_over: float) -> Ratio:
    verdict: Verdict = "no difference shown"
    if adjusted <= 1 - statistics.LEVEL:
        verdict = "faster" if ratio.ratio > 1 else "slower"
    regression = verdict == "slower" and ratio.ratio < 1 - fail_over
    return ratio.model_copy(update={"adjusted": adjusted, "verdict": verdict, "regression": regression})


def _overall(metric: Metric, pairs: Sequence[tuple[Cell, Cell]], fail_over: float) -> Ratio | None:
    """The geometric mean over all cells that are ok on both sides; one alone is no mean."""
    ok = [(a, b) for a, b in pairs if a.status == "ok" and b.status == "ok"]
    each = [statistics.unpaired(_speeds(b, metric), _speeds(a, metric)) for a, b in ok]
    known = [one for one in each if one is not None and one.interval is not None]
    found = statistics.together(known)
    if found is None or len(known) < 2:
        return None
    counts = [(len(_speeds(a, metric)), len(_speeds(b, metric))) for a, b in ok]
    ratio = Ratio(
        metric=metric,
        a=None,
        b=None,
        ratio=found.ratio,
        interval=found.interval,
        p_value=found.p_value,
        rounds=(sum(a for a, _ in counts), sum(b for _, b in counts)),
    )
    return _with_verdict(ratio, found.p_value if found.p_value is not None else 1.0, fail_over)


def _warnings(found: Sequence[Difference]) -> list[str]:
    """What makes the comparison questionable, the gravest first."""
    of = {
        kind: [each.name for each in found if each.kind == kind]
        for kind in ("model", "machine", "conditions")
    }
    warnings = []
    if of["model"]:
        warnings.append(
            f"THE TWO ARE OF DIFFERENT MODELS ({', '.join(of['model'])}): no ratio below says anything of the code."
        )
    if of["machine"]:
        warnings.append(
            f"THE TWO WERE MEASURED ON DIFFERENT MACHINES ({', '.join(of['machine'])}): no ratio below says anything "
            "of the code."
        )
    if of["conditions"]:
        warnings.append(f"What may explain a difference by itself: {', '.join(of['conditions'])}.")
    return warnings


def _not_alone(a: Document, b: Document) -> list[str]:
    found = []
    for side, name in ((a, "A"), (b, "B")):
        rounds = [sample for cell in side.cells for sample in cell.samples]
        busy = sum((sample.other_cpu or 0.0) > NEIGHBOURS_ABOVE for sample in rounds)
        if busy:
            found.append(
                f"Other programs took the processor in {busy} of {len(rounds)} rounds of {name}, which may be far too "
                "slow for that."
            )
    return found


def _regressions(matched: Sequence[Match], overall: Sequence[Ratio]) -> list[str]:
    found = [
        f"{each.cell} is {each.status_b} in B and was ok in A: {each.reason_b}"
        for each in matched
        if each.lost
    ]
    found += [
        f"{match.cell} {_said(ratio)}" for match in matched for ratio in match.ratios if ratio.regression
    ]
    found += [f"over all cells B {_said(ratio)}" for ratio in overall if ratio.regression]
    return found


def _gone(a: Document, b: Document, by_box: bool) -> list[str]:
    """Cells that B was asked for, too, and does not have; where each box of both measured everything, of each box."""
    boxes: list[str | None] = [None]
    if by_box:
        boxes = [each.name for each in b.boxes if any(cell.box == each.name for cell in a.cells)]
    there = {(cell.box if by_box else None, bare_id(cell)) for cell in a.cells if cell.status == "ok"}
    return [
        f"{each}{f' @{box}' if box else ''} was ok in A and is missing in B, which was to measure it"
        for box in boxes
        for each in map(cell_id, missing(b, box))
        if (box, each) in there
    ]


def _doubtful(matched: Sequence[Match], fail_over: float) -> list[str]:
    """Slower by more than what passes, and not shown to be."""
    found = []
    for match in matched:
        for ratio in match.ratios:
            if ratio.ratio < 1 - fail_over and not ratio.regression:
                alone = ratio.p_value is not None and ratio.p_value <= 1 - statistics.LEVEL
                many = ", which is not enough among so many cells" if alone else ""
                found.append(f"{match.cell} {_said(ratio)}{many}")
    return found


def _said(ratio: Ratio) -> str:
    verb = "decodes" if ratio.metric == "decode_tps" else "prefills"
    if ratio.interval is None:
        return f"{verb} at {ratio.ratio:.3f} times the speed (single figures, so no interval)"
    low, high = ratio.interval
    return f"{verb} at {ratio.ratio:.3f} times the speed (95% interval {low:.3f} to {high:.3f})"


def _notes(a: Document, b: Document, matched: Sequence[Match]) -> list[str]:
    count = sum(ratio.p_value is not None for match in matched for ratio in match.ratios)
    notes = [APART] if matched else []
    if count > 1:
        notes.append(
            f"{count} ratios have an interval: each verdict is adjusted for so many (Holm), the intervals stand for "
            "themselves at 95%."
        )
    for side, name in ((a, "A"), (b, "B")):
        forced = sum(cell.forced for cell in side.cells)
        if forced:
            notes.append(f"With forced acceptance, and so without a speed to compare, in {name}: {forced}.")
        if side.status != "complete":
            notes.append(f"{name} is a sweep that has not come to its end.")
    both = Counter(match.tokens for match in matched)
    if both["different"]:
        parted = [f"{m.cell} from token {m.first_divergence}" for m in matched if m.tokens == "different"]
        notes.append(
            f"Other tokens in {both['different']} of {len(matched)} cells, so acceptance and speed with a draft may "
            f"differ for that reason: {some(parted)}."
        )
    elif both["same"]:
        notes.append(f"The same tokens in {both['same']} of {len(matched)} cells.")
    return notes
