"""What the cells of the lab say: by class what drafts come true, and what each draft length would pay.

A trace tells of every position, a generation drafts only where a step begins; so what a length gives is a generation
replayed from the trace (`engine.trace.replay`), and what it costs is measured with forced acceptance (`advise.costs`).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from llamacpp_tools.acceptance.lab import class_of
from llamacpp_tools.advise.advice import foretold
from llamacpp_tools.advise.costs import StepCosts, from_forced
from llamacpp_tools.advise.survival import of_steps
from llamacpp_tools.engine.trace import agreed, replay
from llamacpp_tools.errors import BadInput
from llamacpp_tools.results import statistics
from llamacpp_tools.results.lookahead import ClassLookahead, Lookahead, Return, Verdict
from llamacpp_tools.results.schema import Cell, Document
from llamacpp_tools.sweep.cell import uses_mtp

Steps = list[tuple[int, int]]
_VERDICTS: dict[int, Verdict] = {1: "pays", -1: "does not pay", 0: "no gain shown"}


def judge(document: Document, command: str | None = None) -> Lookahead:
    """The part of the result that the lab adds.

    Args:
        document: the cells of the lab, measured now or earlier.
        command: what was typed; by default what the document says of it.

    Raises:
        BadInput: the document holds no cell of the lab.
    """
    cells = document.cells
    traced = [cell for cell in cells if cell.traced]
    plain = [cell for cell in cells if not uses_mtp(cell.mode)]
    if not plain or (not traced and any(uses_mtp(cell.mode) for cell in cells)):
        raise BadInput(
            f"{document.experiment} is no result of `llt acceptance`, or one that was stopped before its first text"
            " (the command that made it goes on with --resume): it holds no text that was watched"
        )
    costs = _costs(cells)
    token_ms = next((_token_ms(cell) for cell in plain if cell.status == "ok"), None)
    classes = [
        _class(cell, next((t for t in traced if t.workload == cell.workload), None), costs, token_ms)
        for cell in plain
    ]
    first = traced[0] if traced else plain[0]
    known = document.acceptance or Lookahead(n_depth=0, lookahead=0, mtp=False, classes=[])
    return Lookahead(
        command=command or known.command,
        n_depth=first.n_depth,
        lookahead=first.n_max or 0,
        mtp=bool(traced),
        draft_history=first.draft_history,
        hidden_row="before-norm" if first.before_norm else "after-norm",
        token_ms=token_ms,
        idle=costs.idle.value if costs is not None and costs.idle is not None else None,
        classes=classes,
        together=_returns(
            [each.runs for each in classes if each.runs], first.n_max or 0, costs, token_ms, "all classes"
        ),
    )


def _costs(cells: Sequence[Cell]) -> StepCosts | None:
    forced = next((cell for cell in cells if cell.forced), None)
    if forced is None:
        return None
    plain = [cell for cell in cells if not uses_mtp(cell.mode) and cell.workload == forced.workload]
    return from_forced(forced, plain[0], _stream("costs")) if plain else None


def _token_ms(cell: Cell) -> float | None:
    return statistics.median([each.decode_ns / each.n_gen / 1e6 for each in cell.samples if each.n_gen])


def _class(
    plain: Cell, traced: Cell | None, costs: StepCosts | None, token_ms: float | None
) -> ClassLookahead:
    found = ClassLookahead(name=class_of(plain.workload), workload=plain.workload, plain_tps=plain.decode_tps)
    failed = next((cell for cell in (traced, plain) if cell is not None and cell.status != "ok"), None)
    if failed is not None:
        found.reason = f"{failed.status}: {failed.reason}"
        found.first_divergence = failed.first_divergence
        return found
    if traced is None or not traced.samples or traced.n_max is None:
        return found
    sample, length = traced.samples[0], traced.n_max
    tokens = traced.output_tokens or []
    runs = sample.step_accepted[: len(sample.predicted) // length]
    found.positions, found.runs = len(runs), runs
    found.histogram = [runs.count(run) for run in range(length + 1)]
    found.accepted = [sum(run > ahead for run in runs) for ahead in range(length)]
    found.agreed = agreed(tokens, sample.predicted, length)
    found.first_divergence = traced.first_divergence
    found.returns = _returns([runs], length, costs, token_ms, found.workload)
    found.best, found.verdict = _verdict(found.returns)
    return found


def _returns(
    texts: Sequence[Sequence[int]],
    longest: int,
    costs: StepCosts | None,
    token_ms: float | None,
    name: str,
) -> list[Return]:
    if not texts:
        return []
    return [_return(texts, n_max, costs, token_ms, name) for n_max in range(1, longest + 1)]


def _return(
    texts: Sequence[Sequence[int]], n_max: int, costs: StepCosts | None, token_ms: float | None, name: str
) -> Return:
    done = [replay(runs, n_max) for runs in texts]
    steps = [step for each in done for step in zip(each.drafted, each.accepted, strict=True)]
    drafted, accepted = (sum(step[at] for step in steps) for at in (0, 1))
    lasting = of_steps([step for step in steps if step[0]], _stream(name))
    found = Return(
        n_max=n_max,
        steps=len(steps),
        drafted=drafted,
        accepted=accepted,
        acceptance=accepted / drafted if drafted else 0.0,
        tokens_per_step=lasting.expected(n_max)[0],
    )
    if costs is None or n_max not in costs.lengths:
        return found
    cost, gain = costs.ratio(n_max), foretold(lasting, costs, n_max)
    found.cost, found.cost_interval = cost.value, cost.interval
    found.break_even = costs.break_even(n_max).value
    found.gain, found.gain_interval = gain.value, gain.interval
    if token_ms is not None:
        found.step_ms = cost.value * token_ms
        found.tps = gain.value * 1e3 / token_ms
    return found


def _verdict(returns: Sequence[Return]) -> tuple[int | None, Verdict]:
    """Of the lengths that are shown to gain the one that gains most; where there is none, of all."""
    known = [each for each in returns if each.gain is not None]
    if not known:
        return None, "no cost known"
    best = max(known, key=lambda each: (_shown(each) > 0, each.gain))
    return best.n_max, _VERDICTS[_shown(best)]


def _shown(row: Return) -> int:
    low, high = row.gain_interval or [row.gain or 1.0] * 2
    return 1 if low > 1 else -1 if high < 1 else 0


def _stream(name: str) -> int:
    return zlib.crc32(f"acceptance {name}".encode())
