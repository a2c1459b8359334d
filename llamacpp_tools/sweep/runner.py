"""Runs what a plan still lacks, comparison by comparison, round by round, and checks the whole at the end."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from llamacpp_tools.errors import BadInput, CheckFailed, Interrupted
from llamacpp_tools.sweep.cell import CellSpec, cell_id
from llamacpp_tools.sweep.executor import CellFault, Executor, Station
from llamacpp_tools.sweep.gate import Gate, TooHot
from llamacpp_tools.sweep.heat import HeatLog
from llamacpp_tools.sweep.journal import CellHistory, Ledger, cell_key
from llamacpp_tools.sweep.neighbours import Neighbours
from llamacpp_tools.sweep.order import comparisons, turns
from llamacpp_tools.sweep.outcome import CellOutcome, Conditions
from llamacpp_tools.sweep.plan import Plan
from llamacpp_tools.sweep.protocol import Event, Note, RoundOrder, RoundSample
from llamacpp_tools.sweep.room import Room
from llamacpp_tools.sweep.stop import Stop
from llamacpp_tools.sweep.validity import check

log = logging.getLogger(__name__)

# Backends on which the same work gives the same bits.
DETERMINISTIC = frozenset({"cpu"})
# A worker that has waited for longer than this is warmed up again.
COLD_AFTER_S = 60.0

Enough = Callable[[Sequence[CellOutcome]], bool]


class Sinks:
    """What is told of a sweep as it goes on; does nothing by itself."""

    def event(self, spec: CellSpec, event: Event) -> None:
        """A worker's event."""

    def round(self, spec: CellSpec, sample: RoundSample) -> None:
        """A round is in the journal."""

    def fault(self, spec: CellSpec, fault: CellFault) -> None:
        """A cell failed and is left alone for the rest of this run."""

    def cooling(self, now_c: float, until_c: float) -> None:
        """The machine is waited for."""

    def comparison(self, outcomes: Sequence[CellOutcome]) -> None:
        """A comparison is done; the outcomes of all cells begun so far."""

    def stopping(self) -> None:
        """The user asked for an end."""


class SweepStopped(CheckFailed):
    """Heat ended the sweep; what was measured is kept."""


@dataclass
class Sweep:
    """All that a run of a sweep needs.

    Attributes:
        plan: the cells.
        executor: opens them.
        journal: keeps what is measured, and knows what was.
        identity: what every figure depends on (see `journal.cell_key`).
        gate: heat's say.
        room: which cells fit, and how many at once.
        stop: set when the user wants an end.
        sinks: told of everything.
        prefills: rounds that begin with a true prefill even where a kept one is there.
        fresh: a worker measures one round and is let go.
        enough: whether the rounds of a comparison show what is wanted; asked only with `most_rounds`.
        most_rounds: never more rounds of a cell than this.
        remote_backends: those of the RPC servers that hold layers.
        check_kept: make sure that a kept prefill is checked against a true one.
        verdicts: the journal is told which cells are invalid, and forgets their rounds; else whoever keeps it judges.
    """

    plan: Plan
    executor: Executor
    journal: Ledger
    identity: Mapping[str, str]
    gate: Gate
    room: Room | None = None
    stop: Stop = field(default_factory=Stop)
    sinks: Sinks = field(default_factory=Sinks)
    prefills: int = 1
    fresh: bool = True
    enough: Enough | None = None
    most_rounds: int = 0
    remote_backends: frozenset[str] = frozenset()
    check_kept: bool = True
    verdicts: bool = True

    def run(self) -> list[CellOutcome]:
        """Measure every round that the journal lacks.

        Returns:
            One outcome per cell, in the plan's order, checked against each other.

        Raises:
            BadInput: a worker found the input itself wrong, so the cells after it could not do better.
            Interrupted: the user stopped it; everything measured is in the journal.
            SweepStopped: the machine became too hot, or does not cool down.
            JournalFull: the journal cannot be written.
        """
        self._refuse_what_cannot_fit()
        failed: set[int] = set()
        groups = comparisons(self.plan.cells)
        for cells in groups:
            with _Stations(self) as stations:
                try:
                    self._comparison(cells, stations, failed)
                    if cells is groups[-1] and self.check_kept:
                        self._check_a_kept_prefill(stations, failed)
                except TooHot as hot:
                    self._too_hot(stations, hot)
            self.sinks.comparison(self.outcomes())
        return self._final()

    def outcomes(self) -> list[CellOutcome]:
        """The cells that have begun, as the journal knows them, not checked against each other."""
        known = [(spec, self._history(spec)) for spec in self.plan.cells]
        return [outcome_of(spec, cell) for spec, cell in known if cell.attempts or cell.status != "ok"]

    def key(self, spec: CellSpec) -> str:
        """The cell's key in the journal."""
        return cell_key(spec, self.identity)

    def _final(self) -> list[CellOutcome]:
        full_kv = self.room.full_kv_bytes if self.room is not None else None
        backends = {self.plan.config.build.backend} | self.remote_backends
        found = check(self.outcomes(), backends <= DETERMINISTIC, full_kv)
        for outcome in found if self.verdicts else ():
            if outcome.status == "invalid" and self._history(outcome.spec).status == "ok":
                self.journal.ended(self.key(outcome.spec), "invalid", outcome.reason, 0.0, None)
        return found

    def _history(self, spec: CellSpec) -> CellHistory:
        return self.journal.cell(self.key(spec))

    def _refuse_what_cannot_fit(self) -> None:
        for spec in self.plan.cells:
            reason = self.room.refusal(spec) if self.room is not None else None
            history = self._history(spec)
            if reason is not None and len(history.rounds) < spec.rounds:
                self.journal.ended(self.key(spec), "skipped", reason, 0.0, None)
                self.sinks.fault(spec, CellFault("skipped", reason))

    def _comparison(self, cells: Sequence[CellSpec], stations: _Stations, failed: set[int]) -> None:
        for number in range(max(spec.rounds for spec in cells)):
            self._round([spec for spec in cells if number < spec.rounds], number, stations, failed)
        if self.enough is None:
            return
        for number in range(max(spec.rounds for spec in cells), self.most_rounds):
            if self.enough([outcome_of(spec, self._history(spec)) for spec in cells]):
                return
            self._round(cells, number, stations, failed)

    def _round(self, cells: Sequence[CellSpec], number: int, stations: _Stations, failed: set[int]) -> None:
        for spec in turns(cells, number):
            history = self._history(spec)
            skipped = history.status == "skipped" and self.room is not None and self.room.refusal(spec)
            if spec.index in failed or skipped or number in history.rounds:
                continue
            self._heed_stop(f"stopped before round {number + 1} of {cell_id(spec)}")
            try:
                sample, conditions = self._measure(spec, number, self._prefilled(number), stations)
            except CellFault as fault:
                stations.drop(spec)
                self._failed(spec, fault, stations.wall_s(spec))
                failed.add(spec.index)
                continue
            self.journal.measured(self.key(spec), spec, sample, conditions)
            if self.fresh:
                stations.close(spec)
            self.sinks.round(spec, sample)
            self._heed_stop(f"stopped after round {number + 1} of {cell_id(spec)}")

    def _heed_stop(self, words: str) -> None:
        if self.stop.asked:
            raise Interrupted(words)

    def _prefilled(self, number: int) -> bool:
        # A single true prefill is made where no kept one is found, and may so be shared with another cell.
        return self.prefills > 1 and number < self.prefills

    def _measure(
        self, spec: CellSpec, number: int, prefill: bool, stations: _Stations
    ) -> tuple[RoundSample, Conditions]:
        # Whatever stops the sweep from here on stops it in this cell.
        stations.last = spec
        waited = self.gate.wait(self._cooling)
        station, cold = stations.take(spec)
        heat = HeatLog()
        before = Neighbours.now(station.pid)
        watch = self.gate.watcher(heat)
        distrusted = self._history(spec).distrusted
        order = RoundOrder(number, prefill or distrusted, warm=cold or waited, renew=distrusted)
        begun = time.monotonic()
        try:
            sample = station.round(order, lambda event: self._event(spec, event), watch)
        finally:
            stations.spent(spec, time.monotonic() - begun)
        self.gate.last_look(heat, time.monotonic() - begun)
        return sample, Conditions(self.journal.run, heat, before.since(station.pid))

    def _event(self, spec: CellSpec, event: Event) -> None:
        if isinstance(event, Note):
            self.journal.noted(self.key(spec), event.text)
        self.sinks.event(spec, event)

    def _cooling(self, now_c: float, until_c: float) -> None:
        self._heed_stop("stopped while the machine cooled down")
        self.sinks.cooling(now_c, until_c)

    def _failed(self, spec: CellSpec, fault: CellFault, wall_s: float) -> None:
        self.journal.ended(self.key(spec), fault.status, fault.reason, wall_s, None)
        if fault.bad_input:
            raise BadInput(fault.reason)
        self.sinks.fault(spec, fault)

    def _too_hot(self, stations: _Stations, hot: TooHot) -> None:
        spec = stations.last or self.plan.cells[0]
        stations.drop(spec)
        self._failed(spec, CellFault("thermal", str(hot)), stations.wall_s(spec))
        raise SweepStopped(f"the sweep stopped in {cell_id(spec)}: {hot}")

    def _check_a_kept_prefill(self, stations: _Stations, failed: set[int]) -> None:
        """Where every use of a kept prefill went unchecked, fill one cell truly and compare (`validity`)."""
        histories = [(spec, self._history(spec)) for spec in self.plan.cells if spec.index not in failed]
        restored = [item for item in histories if "restored" in _fillings(item[1])]
        if not restored or any(
            {"prefill", "restored"} <= _fillings(cell) or cell.check for _, cell in restored
        ):
            return
        spec, _ = min(restored, key=lambda item: item[0].n_depth)
        self._heed_stop("stopped before a kept prefill was checked against a true one")
        with contextlib.suppress(CellFault):
            sample, _ = self._measure(spec, spec.rounds, True, stations)
            self.journal.checked(self.key(spec), sample)


class _Stations(contextlib.AbstractContextManager["_Stations"]):
    """The cells of one comparison that are loaded; all at once where there is room."""

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep
        self._open: dict[int, Station] = {}
        self._specs: dict[int, CellSpec] = {}
        self._used: dict[int, float] = {}
        self._wall: dict[int, float] = {}
        self.last: CellSpec | None = None

    def __exit__(self, *_: object) -> None:
        for index in list(self._open):
            self.close(self._specs[index])

    def take(self, spec: CellSpec) -> tuple[Station, bool]:
        """The cell's station, and whether it is cold: just opened, or idle for long."""
        if spec.index in self._open:
            return self._open[spec.index], time.monotonic() - self._used[spec.index] > COLD_AFTER_S
        self._make_room(spec)
        sweep = self._sweep
        begun = time.monotonic()
        self._wall[spec.index] = 0.0
        log.info("opening cell %d of %d: %s", spec.index + 1, len(sweep.plan.cells), cell_id(spec))
        watch = sweep.gate.watcher(HeatLog())
        try:
            station = sweep.executor.open(spec, lambda event: sweep.sinks.event(spec, event), watch)
        finally:
            self._wall[spec.index] = time.monotonic() - begun
        self._open[spec.index], self._specs[spec.index] = station, spec
        sweep.journal.loaded(sweep.key(spec), station.loaded)
        return station, True

    def spent(self, spec: CellSpec, wall_s: float) -> None:
        """A round took so long."""
        self._used[spec.index] = time.monotonic()
        self._wall[spec.index] += wall_s

    def drop(self, spec: CellSpec) -> None:
        """Let the cell's station go, if it is open; nothing is said of how the cell ended."""
        station = self._open.pop(spec.index, None)
        if station is not None:
            station.close()

    def wall_s(self, spec: CellSpec) -> float:
        """Seconds that the cell has taken and that are in no entry of the journal yet."""
        return self._wall.pop(spec.index, 0.0)

    def _make_room(self, spec: CellSpec) -> None:
        room = self._sweep.room
        while self._open:
            specs = [self._specs[index] for index in self._open]
            if room is None or room.holds([*specs, spec]):
                return
            oldest = min(self._open, key=lambda index: self._used.get(index, 0.0))
            self.close(self._specs[oldest])

    def close(self, spec: CellSpec) -> None:
        """Let a station go whose rounds so far went well."""
        sweep = self._sweep
        done = self._open.pop(spec.index).close()
        peak = done.max_rss_bytes if done is not None else None
        # After a full disk, or a second Ctrl-C, the worker still has to go.
        with contextlib.suppress(Exception):
            sweep.journal.ended(sweep.key(spec), "ok", None, self.wall_s(spec), peak)


def outcome_of(spec: CellSpec, cell: CellHistory) -> CellOutcome:
    """What the journal amounts to for one cell, not checked against others."""
    rounds = [cell.rounds[number] for number in sorted(cell.rounds)]
    status, reason, notes = cell.status, cell.reason, cell.notes
    if status not in ("ok", "invalid") and len(rounds) >= spec.rounds:
        # What was asked for is there; a round beyond it, or the wait for it, went wrong.
        notes = [*notes, f"a further round was not measured ({status}: {reason})"]
        status, reason = "ok", None
    elif status == "ok" and len(rounds) < spec.rounds:
        status, reason = (
            "skipped",
            f"{len(rounds)} of {spec.rounds} rounds were measured before the sweep ended",
        )
    return CellOutcome(
        spec,
        status,
        reason,
        loaded=cell.loaded,
        rounds=tuple(sample for sample, _ in rounds),
        conditions=tuple(conditions for _, conditions in rounds),
        max_rss_bytes=cell.max_rss_bytes,
        wall_s=cell.wall_s,
        attempts=len(cell.attempts),
        notes=tuple(dict.fromkeys(notes)),
        check=cell.check,
    )


def _fillings(cell: CellHistory) -> set[str]:
    return {sample.filled for sample, _ in cell.rounds.values()}
