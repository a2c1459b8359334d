"""A cell's outcome as a row of the document."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence

from llamacpp_tools.results import statistics
from llamacpp_tools.results.schema import Cell, Heat, Sample, StepCost
from llamacpp_tools.results.steering import steering
from llamacpp_tools.sweep.cell import cell_id
from llamacpp_tools.sweep.forced import settled
from llamacpp_tools.sweep.outcome import CellOutcome, Conditions
from llamacpp_tools.sweep.protocol import RoundSample
from llamacpp_tools.workloads import distinct_word_ratio

# Of the clock of the sweep's fastest round.
THROTTLED_BELOW = 0.9


def token_hash(tokens: Sequence[int]) -> str:
    """SHA-256 of the token ids, in decimal, joined by commas."""
    return hashlib.sha256(",".join(str(token) for token in tokens).encode()).hexdigest()


def bare_id(cell: Cell) -> str:
    """The cell's id without the box that stands behind it where every box measures the same."""
    return cell.id.removesuffix(f" @{cell.box}") if cell.box is not None else cell.id


def row(outcome: CellOutcome, reference: str | None = None, name: str | None = None) -> Cell:
    """The document's row for `outcome`.

    Args:
        outcome: the cell's end; the rounds that were finished before a crash are kept as samples.
        reference: id of the cell whose tokens it was compared with.
        name: its id; by default what `cell_id` says.
    """
    spec, loaded = outcome.spec, outcome.loaded
    samples = [_sample(*pair) for pair in zip(outcome.rounds, _conditions(outcome), strict=True)]
    cell = Cell(
        id=name or cell_id(spec),
        mode=spec.mode,
        box=outcome.box,
        status=outcome.status,
        reason=outcome.reason,
        n_depth=spec.n_depth,
        workload=spec.workload,
        n_max=spec.n_max,
        p_min=spec.p_min,
        forced=spec.forced,
        auto=spec.auto,
        traced=spec.traced,
        draft_history=spec.draft_history,
        before_norm=spec.before_norm,
        window=spec.window,
        full_layers=list(spec.full_layers) if spec.full_layers is not None else None,
        n_predict=spec.n_predict,
        ignore_eos=spec.ignore_eos,
        rounds=spec.rounds,
        n_ctx=loaded.n_ctx if loaded else spec.n_ctx,
        n_ubatch=spec.n_ubatch,
        n_batch=spec.n_batch,
        type_k=spec.type_k,
        type_v=spec.type_v,
        flash_attn=spec.flash_attn,
        n_gpu_layers=spec.n_gpu_layers,
        threads=spec.threads,
        rpc=list(spec.rpc),
        layers=loaded.layers if loaded else None,
        n_threads=loaded.n_threads if loaded else None,
        kv_bytes=loaded.kv_bytes if loaded else None,
        n_rs_seq=loaded.n_rs_seq if loaded else None,
        load_ns=loaded.load_ns if loaded else None,
        max_rss_bytes=outcome.max_rss_bytes,
        wall_s=round(outcome.wall_s, 3),
        samples=samples,
        reference=reference,
        first_divergence=outcome.first_divergence,
        attempts=outcome.attempts,
        temperature_c_max=max(_known(samples, "temperature_c"), default=None),
        clock_mhz=statistics.median(_known(samples, "clock_mhz")),
        notes=list(outcome.notes),
    )
    if not outcome.rounds:
        return cell
    figures = _prefill(outcome.rounds) | (
        _costs(outcome.rounds)
        if spec.forced
        else _text(outcome.rounds)
        if spec.traced
        else _decode(outcome.rounds, spec.mtp)
    )
    if spec.auto:
        figures["steering"] = steering(outcome.rounds)
    return cell.model_copy(update=figures)


def mark_throttled(cells: Sequence[Cell]) -> list[Cell]:
    """The cells with each round marked whose clock fell below `THROTTLED_BELOW` of the same box's fastest round's."""
    top: dict[str | None, float] = {}
    for cell in cells:
        clocks = [clock for sample in cell.samples if (clock := _clock(sample)) is not None]
        top[cell.box] = max([top.get(cell.box, 0.0), *clocks])
    return [
        cell.model_copy(update={"samples": [_marked(sample, top[cell.box]) for sample in cell.samples]})
        for cell in cells
    ]


def _marked(sample: Sample, top: float) -> Sample:
    clock, limit = _clock(sample), THROTTLED_BELOW * top
    return sample.model_copy(update={"throttled": clock is not None and clock < limit})


def _clock(sample: Sample) -> float | None:
    return statistics.median(_known([sample], "clock_mhz"))


def _known(samples: Sequence[Sample], name: str) -> list[float]:
    values = (value for sample in samples if sample.heat for value in getattr(sample.heat, name))
    return [value for value in values if value is not None]


def _conditions(outcome: CellOutcome) -> Sequence[Conditions]:
    return outcome.conditions or [Conditions() for _ in outcome.rounds]


def _sample(sample: RoundSample, conditions: Conditions) -> Sample:
    return Sample(
        round=sample.round,
        n_prompt=sample.n_prompt,
        prefill_ns=sample.prefill_ns,
        n_gen=sample.n_gen,
        decode_ns=sample.decode_ns,
        n_steps=sample.n_steps,
        step_ns=sample.step_ns,
        drafted=sample.drafted,
        accepted=sample.accepted,
        step_drafted=sample.step_drafted,
        step_accepted=sample.step_accepted,
        step_draft_ns=sample.step_draft_ns,
        step_why=sample.step_why,
        ties=sample.ties,
        predicted=sample.predicted,
        pieces=sample.pieces,
        output_sha256=token_hash(sample.tokens),
        filled=sample.filled,
        restore_ns=sample.restore_ns,
        other_ns=sample.other_ns,
        attempt=conditions.attempt,
        heat=Heat(**dataclasses.asdict(conditions.heat)),
        other_cpu=conditions.other_cpu,
    )


def _prefill(rounds: Sequence[RoundSample]) -> dict[str, object]:
    # Only a true prefill tells how fast prefilling is; a kept one knows how long it took, which is one sample.
    true_fills = [sample for sample in rounds if sample.filled == "prefill"] or list(rounds[:1])
    speeds = _speeds([(sample.n_prompt, sample.prefill_ns) for sample in true_fills])
    return {
        "n_prompt": rounds[0].n_prompt,
        "filled": rounds[0].filled,
        "prefill_tps": statistics.median(speeds),
        "prefill_tps_interval": statistics.median_interval(speeds),
        "prefill_avg_ts": statistics.mean(speeds),
        "prefill_stddev_ts": statistics.stddev(speeds),
        "prefill_samples_ns": [sample.prefill_ns for sample in true_fills],
        "prefill_samples_ts": speeds,
    }


def _decode(rounds: Sequence[RoundSample], mtp: bool) -> dict[str, object]:
    speeds = _speeds([(sample.n_gen, sample.decode_ns) for sample in rounds])
    steps = [ns / 1e6 for sample in rounds for ns in sample.step_ns]
    return {
        "decode_tps": statistics.median(speeds),
        "decode_tps_interval": statistics.median_interval(speeds),
        "avg_ts": statistics.mean(speeds),
        "stddev_ts": statistics.stddev(speeds),
        "samples_ns": [sample.decode_ns for sample in rounds],
        "samples_ts": speeds,
        "step_ms_p50": statistics.percentile(steps, 50),
        "step_ms_p95": statistics.percentile(steps, 95),
        **_text(rounds),
        **(_acceptance(rounds) | _split(rounds) if mtp else {}),
    }


def _text(rounds: Sequence[RoundSample]) -> dict[str, object]:
    first = rounds[0]
    ratio = distinct_word_ratio(first.text)
    return {
        "n_steps": sum(sample.n_steps for sample in rounds),
        "n_gen": first.n_gen,
        "distinct_word_ratio": round(ratio, 4) if ratio is not None else None,
        "output_sha256": token_hash(first.tokens),
        "output_tokens": first.tokens,
        "output_text": first.text,
    }


def _split(rounds: Sequence[RoundSample]) -> dict[str, object]:
    """Draft and verification of a mean step; what the loop around the library takes counts as verification."""
    n_steps = sum(len(sample.step_draft_ns) for sample in rounds)
    if not n_steps:
        return {}
    draft = sum(sum(sample.step_draft_ns) for sample in rounds) / n_steps / 1e6
    whole = sum(sum(sample.step_ns) for sample in rounds) / n_steps / 1e6
    return {"draft_ms": draft, "verify_ms": whole - draft}


def _costs(rounds: Sequence[RoundSample]) -> dict[str, object]:
    """Medians by draft length: of a round's settled steps, then of the rounds."""
    found = []
    for n_max in sorted({length for sample in rounds for length in sample.step_drafted}):
        steps = [_settled_steps(sample, n_max) for sample in rounds]
        samples = [statistics.median([step for step, _ in each]) for each in steps if each]
        drafts = [statistics.median([draft for _, draft in each]) for each in steps if each]
        whole, draft = _middle(samples), _middle(drafts)
        if whole is None or draft is None:
            continue
        found.append(
            StepCost(
                n_max=n_max,
                n_steps=sum(len(each) for each in steps),
                step_ms=whole,
                draft_ms=draft,
                verify_ms=whole - draft,
                step_ms_interval=statistics.median_interval(
                    [value for value in samples if value is not None]
                ),
                samples_ms=[value for value in samples if value is not None],
            )
        )
    return {"step_costs": found, "n_steps": sum(sample.n_steps for sample in rounds)}


def _middle(values: Sequence[float | None]) -> float | None:
    return statistics.median([value for value in values if value is not None])


def _settled_steps(sample: RoundSample, n_max: int) -> list[tuple[float, float]]:
    """(step, draft) in milliseconds of the steps of that length that count."""
    rows = zip(
        sample.step_drafted, settled(sample.step_drafted), sample.step_ns, sample.step_draft_ns, strict=True
    )
    return [(step / 1e6, draft / 1e6) for length, counts, step, draft in rows if counts and length == n_max]


def _speeds(pairs: Sequence[tuple[int, int]]) -> list[float]:
    speeds = (statistics.tokens_per_second(tokens, ns) for tokens, ns in pairs)
    return [speed for speed in speeds if speed is not None]


def _acceptance(rounds: Sequence[RoundSample]) -> dict[str, object]:
    drafted = _by_position([sample.drafted for sample in rounds])
    accepted = _by_position([sample.accepted for sample in rounds])
    return {
        "drafted": sum(drafted),
        "accepted": sum(accepted),
        "acceptance": sum(accepted) / sum(drafted) if sum(drafted) else None,
        "drafted_per_position": drafted,
        "accepted_per_position": accepted,
    }


def _by_position(lists: Sequence[Sequence[int]]) -> list[int]:
    longest = max(len(values) for values in lists)
    return [sum(values[at] for values in lists if at < len(values)) for at in range(longest)]
