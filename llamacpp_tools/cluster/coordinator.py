"""Runs a plan over boxes: who is there, who measures what, and every entry on this machine's disk as it comes.

One loop serves all boxes. A box that is lost gives its comparison back, and whoever takes it measures it whole: rounds
of two boxes never stand in one row.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llamacpp_tools.cluster import placement
from llamacpp_tools.cluster.client import Connect
from llamacpp_tools.cluster.holdings import Holdings, Measuring
from llamacpp_tools.cluster.job import Row
from llamacpp_tools.cluster.link import SILENCE_S, BoxLost, Link, alive
from llamacpp_tools.cluster.placement import Queue, Task
from llamacpp_tools.cluster.sinks import BoxSinks
from llamacpp_tools.errors import BadInput, CheckFailed, Interrupted, LltError
from llamacpp_tools.models.header import GgufHeader
from llamacpp_tools.results.measure import Options
from llamacpp_tools.results.provenance import box as in_words
from llamacpp_tools.results.record import Record
from llamacpp_tools.results.schema import Provenance
from llamacpp_tools.sweep.cell import CellSpec
from llamacpp_tools.sweep.executor import CellFault
from llamacpp_tools.sweep.journal import Journal, Ledger
from llamacpp_tools.sweep.outcome import CellOutcome
from llamacpp_tools.sweep.plan import Plan
from llamacpp_tools.sweep.protocol import Note, RoundSample
from llamacpp_tools.sweep.room import Room
from llamacpp_tools.sweep.runner import DETERMINISTIC
from llamacpp_tools.sweep.stop import Stop

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger(__name__)

LOOK_S = 0.5
TICK_S = 0.25
# A worker that restarts, or a network that is mended, takes about this long.
PATIENCE_S = 60.0


@dataclass
class Over:
    """A sweep over boxes.

    Attributes:
        plan: the cells.
        header: the model.
        order: what every box is told of the sweep (see `box`).
        options: what the sweep is told beside its plan.
        journal: keeps every entry.
        record: the result; told of the boxes.
        sinks: told of everything.
        stop: set when the user wants an end.
        patience_s: how long to wait for a box where none can go on.
        silence_s: how long a box may say nothing.
    """

    plan: Plan
    header: GgufHeader
    order: Row
    options: Options
    journal: Journal
    record: Record
    sinks: BoxSinks = field(default_factory=BoxSinks)
    stop: Stop = field(default_factory=Stop)
    patience_s: float = PATIENCE_S
    silence_s: float = SILENCE_S

    def __post_init__(self) -> None:
        self._id = secrets.token_hex(6)
        self._count = itertools.count()
        self._held = Holdings(self.plan, self.journal, self.options, Measuring.of(self.order))
        self._groups = self._held.groups
        self._each = self.plan.config.place == "each"
        self._queue = Queue()
        self._links: dict[str, Link] = {}
        self._seen: dict[str, Link] = {}
        self._loops: dict[str, asyncio.Task[None]] = {}
        # Boxes that were sent away, by name with their worker's address: started again, they may try again.
        self._sent_away: dict[tuple[str, str], str] = {}
        self._tried: dict[int, set[str]] = {}
        self._checked: set[str] = set()
        self._fatal: LltError | None = None
        self._changed = asyncio.Event()
        for name, row in self.journal.boxes.items():
            self.record.boxes[name] = Provenance.model_validate(row["provenance"])
        if not self._each:
            self._fill()

    def run(self, connect: Connect) -> list[CellOutcome]:
        """Measure what the journal lacks.

        Args:
            connect: opens the client.

        Returns:
            One outcome per cell, with `place: each` one per cell and box, checked against each other.

        Raises:
            BadInput: a worker found the input itself wrong.
            CheckFailed: no box can go on, or the scheduler is gone; everything measured is in the journal.
            Interrupted: the user stopped it.
        """
        if self._done():
            return self._final()
        try:
            return asyncio.run(self._main(connect))
        except KeyboardInterrupt:
            raise Interrupted("stopped") from None

    def outcomes(self) -> list[CellOutcome]:
        """The cells that have begun, each from the one box that its comparison belongs to."""
        return self._held.outcomes(self._each)

    # What there is to do

    def _fill(self) -> None:
        for number in range(len(self._groups)):
            self._assign(number)

    def _assign(self, number: int) -> None:
        """Take a comparison as measured where a box has all of it, else as one that is to be."""
        whole = [name for name in self.journal.boxes if self._held.whole(number, name)]
        if whole:
            self._held.where[number] = whole[0]
        else:
            self._held.where.pop(number, None)
            home = next(iter(self._held.belongs(number)), None)
            self._queue.add(self._task(number, self._groups[number], home))

    def _task(
        self, number: int, cells: Sequence[CellSpec], home: str | None, only: str | None = None
    ) -> Task:
        return Task(number, placement.weight(cells), frozenset(spec.index for spec in cells), home, only)

    def _done(self) -> bool:
        if not self._each:
            return self._queue.empty
        if not self._queue.empty or self._preparing() or self._awaited():
            return False
        numbers = range(len(self._groups))
        return any(self._held.begun(number, name) for name in self.journal.boxes for number in numbers)

    def _preparing(self) -> bool:
        return any(name not in self._links for name in self._loops)

    def _awaited(self) -> list[str]:
        """With `place: each`, boxes that have begun and are neither here nor done."""
        away = [name for name in self.journal.boxes if name not in self._links]
        numbers = range(len(self._groups))
        return [
            name
            for name in away
            if any(self._held.begun(number, name) for number in numbers)
            and not all(
                self._held.whole(number, name) or name in self._tried.get(number, ()) for number in numbers
            )
        ]

    # The loop

    async def _main(self, connect: Connect) -> list[CellOutcome]:
        async with connect() as client:
            looked = idle_since = time.monotonic()
            looked -= LOOK_S
            told = False
            try:
                while True:
                    if time.monotonic() - looked >= LOOK_S and not self.stop.asked:
                        looked = time.monotonic()
                        await self._look(client)
                    self._reap()
                    if self._fatal is not None:
                        raise self._fatal
                    if self._done():
                        return self._final()
                    if self.stop.asked:
                        if not told:
                            told = True
                            await asyncio.gather(*(link.stop() for link in self._links.values()))
                        if not self._queue.running:
                            raise Interrupted("stopped")
                    if self._queue.running or self._preparing():
                        idle_since = time.monotonic()
                    elif time.monotonic() - idle_since > self.patience_s:
                        raise CheckFailed(self._nobody())
                    elif time.monotonic() - idle_since > 2 * LOOK_S:
                        self.sinks.waiting(self._nobody())
                    await self._tick()
            finally:
                for loop in self._loops.values():
                    loop.cancel()
                with contextlib.suppress(Exception):
                    await asyncio.gather(*(link.stop(at_once=True) for link in self._links.values()))

    async def _tick(self) -> None:
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), TICK_S)

    def _reap(self) -> None:
        for name, loop in list(self._loops.items()):
            if loop.done():
                del self._loops[name]
                self._links.pop(name, None)
                loop.result()

    async def _look(self, client: Client) -> None:
        """Greet whoever has joined."""
        workers = await alive(client)
        for link in self._seen.values():
            if link.address not in workers:
                link.gone.set()
        for address, worker in workers.items():
            name = str(worker.get("name"))
            if name in self._loops or (name, address) in self._sent_away:
                continue
            if "box" not in worker.get("resources", {}):
                self._send_away(name, address, "it is no box: join it with `llt worker`")
                continue
            link = self._seen[name] = Link(client, name, address, silence_s=self.silence_s)
            self._loops[name] = asyncio.create_task(self._serve(link))

    async def _serve(self, link: Link) -> None:
        try:
            if await self._prepared(link):
                while not self.stop.asked and self._fatal is None:
                    task = self._queue.take(link.name, self._links)
                    if task is None:
                        self.sinks.doing(link.name, "nothing to do", 0, 0)
                        await asyncio.sleep(TICK_S)
                    elif not await self._measured(link, task):
                        break
        except BoxLost as lost:
            self._queue.give_back(link.name, self._has_begun(link.name))
            self.sinks.left(link.name, str(lost))
        except LltError as error:
            self._queue.give_back(link.name, self._has_begun(link.name))
            self._fatal = self._fatal or error
        finally:
            self._changed.set()

    def _has_begun(self, name: str) -> bool:
        task = self._queue.running.get(name)
        return task is not None and name in self.journal.boxes and self._held.rounds(task.index, name) > 0

    def _send_away(self, name: str, address: str, why: str) -> None:
        self._sent_away[name, address] = why
        self.sinks.left(name, why)

    async def _prepared(self, link: Link) -> bool:
        """Have a box get ready; False if it cannot take part."""
        if (why_not := await link.greet()) is not None:
            self._send_away(link.name, link.address, why_not)
            return False
        self.sinks.doing(link.name, "getting ready", 0, 0)
        order = {
            **self.order,
            "what": "prepare",
            "sweep": self._id,
            "cells": [s.to_json() for s in self.plan.cells],
        }
        answer = await link.run(
            self._job_id(), order, self._no_rows, lambda said: self._progress(link.name, said)
        )
        if answer["how"] != "done":
            if not self.stop.asked:
                self._send_away(link.name, link.address, str(answer["reason"]))
            return False
        self._joined(link, answer)
        return True

    def _joined(self, link: Link, answer: Row) -> None:
        known = Provenance.model_validate(answer["provenance"])
        texts = {name: value for name, value in self.order["identity"].items() if name.startswith("text ")}
        if any(answer["identity"].get(name) != value for name, value in texts.items()):
            self._send_away(
                link.name, link.address, "its texts are others: is llt there of the same version?"
            )
            raise BoxLost("its texts are others")
        self.journal.joined(
            link.name, answer["identity"], {"provenance": answer["provenance"], "about": link.about}
        )
        self.record.boxes[link.name] = known
        self._queue.too_large[link.name] = frozenset(answer["too_large"])
        self._links[link.name] = link
        own = 0
        if self._each:
            self._queue.leaves(link.name)
            tried = [
                number for number in range(len(self._groups)) if link.name in self._tried.get(number, ())
            ]
            for number, cells in enumerate(self._groups):
                if number not in tried and not self._held.whole(number, link.name):
                    self._queue.add(self._task(number, cells, link.name, only=link.name))
            own = sum(spec.rounds for spec in self.plan.cells)
        else:
            # Of a box that has another library or driver than before nothing is left.
            before = [number for number, name in self._held.where.items() if name == link.name]
            for number in before:
                if not self._held.whole(number, link.name):
                    self._assign(number)
        self.sinks.joined(link.name, in_words(known), own)

    # Measuring

    async def _measured(self, link: Link, task: Task) -> bool:
        """Have a comparison measured; False if the box goes on with nothing."""
        cells, name = self._groups[task.index], link.name
        keys = {self._held.key(spec, name): spec for spec in cells}
        known = any(self.journal.cell(key).attempts for key in keys)
        order = {
            **self.order,
            "what": "measure",
            "sweep": self._id,
            "cells": [spec.to_json() for spec in cells],
            "history": self.journal.rows_of(keys) if known else [],
            "run": self.journal.run,
            "check_kept": self._to_be_checked(name),
        }
        answer = await link.run(
            self._job_id(),
            order,
            lambda row: self._row(keys, row),
            lambda said: self._progress(name, said),
        )
        how, reason = answer["how"], str(answer.get("reason", ""))
        if how == "done":
            self._queue.done(name)
            self._held.where[task.index] = name
            self._tried.setdefault(task.index, set()).add(name)
            self.sinks.comparison(self.outcomes())
            self._changed.set()
            return True
        if how == "bad_input":
            raise BadInput(f"the box {name} says: {reason}")
        if how == "stopped" and not self.stop.asked:
            raise BoxLost(reason)
        self._queue.give_back(name, self._has_begun(name))
        if how != "stopped":
            self._send_away(name, link.address, reason)
            self.sinks.comparison(self.outcomes())
        return False

    def _to_be_checked(self, name: str) -> bool:
        """Whether a box has still to check a kept prefill against a true one; asked once a run."""
        if name in self._checked:
            return False
        self._checked.add(name)
        return not self._held.checked(name)

    def _row(self, keys: dict[str, CellSpec], row: Row) -> None:
        try:
            if row["key"] not in keys or row["entry"] in ("begin", "box"):
                raise ValueError("it tells of something else")
            # Nothing that a journal could not be read back with comes onto the disk.
            Ledger().append(row)
        except (ValueError, KeyError, TypeError, LltError) as error:
            raise BoxLost(f"it sent what is no entry of a journal ({error})") from None
        self.journal.append(row)
        spec = keys[row["key"]]
        if row["entry"] == "round":
            self.sinks.round(spec, RoundSample(**row["sample"]))
        elif row["entry"] == "note":
            self.sinks.event(spec, Note(row["text"]))
        elif row["entry"] == "end" and row["status"] != "ok":
            self.sinks.fault(spec, CellFault(row["status"], row["reason"]))

    @staticmethod
    def _no_rows(row: Row) -> None:
        raise BoxLost("it sent an entry before anything was measured")

    def _progress(self, name: str, said: Row) -> None:
        if "cell" in said:
            spec = self.plan.cells[int(said["cell"])]
            what = f"{spec.mode} d{spec.n_depth}, round {said['round'] + 1} of {spec.rounds}: {said['phase']}"
            self.sinks.doing(name, what, said["done"], said["total"])
        elif said:
            self.sinks.doing(name, str(said["doing"]), said["done"], said["total"])

    def _job_id(self) -> str:
        return f"{self._id}-{next(self._count)}"

    # The end

    def _nobody(self) -> str:
        awaited = self._awaited() if self._each else []
        if awaited:
            return f"waited for {', '.join(awaited)}, which had begun and has not come back"
        if self._sent_away:
            told = "; ".join(f"{name}: {why}" for (name, _), why in self._sent_away.items())
            return f"no box is left that can go on: {told}"
        return "no box has joined, or all have left: join one with `llt worker` and the scheduler's address"

    def _final(self) -> list[CellOutcome]:
        deterministic = self.plan.config.build.backend in DETERMINISTIC
        return self._held.judged(self._each, deterministic, Room(self.header, 0).full_kv_bytes)
