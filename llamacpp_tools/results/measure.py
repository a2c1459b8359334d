"""Runs a plan and writes its record: the whole of a sweep but what is shown of it."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from llamacpp_tools import home
from llamacpp_tools.build import manifest
from llamacpp_tools.build.manifest import Build
from llamacpp_tools.errors import BadInput, Interrupted, LltError
from llamacpp_tools.models.digest import model_sha256
from llamacpp_tools.models.gguffile import Progress
from llamacpp_tools.models.header import GgufHeader, check_gguf
from llamacpp_tools.results.precision import narrow_enough
from llamacpp_tools.results.provenance import provenance
from llamacpp_tools.results.record import Record, ResultNotWritten
from llamacpp_tools.results.schema import Document, Provenance
from llamacpp_tools.rpc.identity import ServerIdentity
from llamacpp_tools.sweep import identity, local
from llamacpp_tools.sweep.fit import check_files, check_fit
from llamacpp_tools.sweep.gate import Gate
from llamacpp_tools.sweep.heat import MachineSensors, Thermometer
from llamacpp_tools.sweep.journal import Journal, journal_path
from llamacpp_tools.sweep.modelfile import in_words, model_file, model_header
from llamacpp_tools.sweep.outcome import CellOutcome
from llamacpp_tools.sweep.plan import Plan
from llamacpp_tools.sweep.room import Room
from llamacpp_tools.sweep.runner import Sinks, Sweep
from llamacpp_tools.sweep.servers import OverServers, servers_of
from llamacpp_tools.sweep.stop import heeding_signals
from llamacpp_tools.workloads import MEASURED_SEED

Keep = Callable[[Sequence[CellOutcome]], None]
# Shows a sweep as it goes on: given the plan and what is to be called after each comparison.
Show = Callable[[Plan, Keep], contextlib.AbstractContextManager[Sinks]]
# Given what is written, shows (bytes written, bytes in all).
Writing = Callable[[str], contextlib.AbstractContextManager[Progress | None]]
# Measures what the journal lacks and returns the checked cells.
Run = Callable[[Journal, Record], list[CellOutcome]]
_OF_THE_JOURNAL = ("entry", "version")


@dataclass(frozen=True)
class Options:
    """What a sweep is told beside its plan.

    Attributes:
        force: load also what is not expected to fit.
        keep_prefills: keep true prefills and put them back.
        until_width: add rounds until the intervals are that narrow; None for the plan's own number.
        most_rounds: with `until_width`, never more than this.
    """

    force: bool = False
    keep_prefills: bool = True
    until_width: float | None = None
    most_rounds: int = 0


@dataclass(frozen=True)
class Ready:
    """The build, the model and the RPC servers of a plan, all checked."""

    build: Build
    model: Path
    header: GgufHeader
    servers: Mapping[str, ServerIdentity] = field(default_factory=dict)


class Stopped(LltError):
    """The sweep ended before its end, and what was measured can be gone on with.

    Attributes:
        why: what ended it.
    """

    def __init__(self, why: LltError) -> None:
        super().__init__(str(why))
        self.why = why
        self.exit_code = why.exit_code


def ready(planned: Plan, writing: Writing) -> Ready:
    """The build and the model; what the user can mend is said before anything is started.

    Args:
        planned: the cells.
        writing: shows how far a model has come that has to be written first.

    Raises:
        BadInput: a file is missing, or the plan does not fit the model.
        MissingTool: there is no such build, or an RPC server is not there.
        CheckFailed: an RPC server is of another build.
    """
    settings = planned.config
    check_files(planned)
    check_fit(planned, model_header(settings.model))
    is_spread = any(cell.rpc for cell in planned.cells)
    build = manifest.find(settings.build.backend, settings.build.variant, is_spread)
    servers = servers_of(planned, build.manifest)
    with writing(in_words(settings.model)) as progress:
        model = model_file(settings.model, progress)
    header = check_gguf(model)
    check_fit(planned, header)
    return Ready(build, model, header, servers)


def measure(
    planned: Plan,
    parts: Ready,
    path: Path,
    show: Show,
    options: Options | None = None,
    now: datetime.datetime | None = None,
) -> Document:
    """Measure what the journal beside `path` lacks, and write the result there.

    Args:
        planned: the cells.
        parts: of `ready`.
        path: the result file; its journal lies beside it, and is gone on with where there is one.
        show: how the sweep is shown.
        options: what else it is told.
        now: the time.

    Raises:
        Stopped: it ended early; going on is possible.
        LltError: it ended before anything was measured, and left nothing behind.
    """
    asked = options or Options()
    device = identity.ask_device(parts.build.path)
    known = provenance(parts.build.data, parts.model, device.driver, parts.servers)

    def run(journal: Journal, record: Record) -> list[CellOutcome]:
        return _run(_sweep(planned, parts, device, asked, journal), record, show)

    return recorded(planned, known, path, run, now)


def recorded(
    planned: Plan,
    known: Provenance,
    path: Path,
    run: Run,
    now: datetime.datetime | None = None,
    over_boxes: bool = False,
) -> Document:
    """Open the journal and the record, have `run` fill them, and finish the record with what it returns.

    Args:
        planned: the cells.
        known: where the figures come from.
        path: the result file.
        run: measures; given the open journal and the record.
        now: the time.
        over_boxes: whether it runs over several boxes; a sweep that began in the other way cannot be gone on with.

    Raises:
        BadInput: it was begun in the other way.
        Stopped: it ended early; going on is possible.
        LltError: it ended before anything was measured, and left nothing behind.
    """
    now = now or datetime.datetime.now(datetime.UTC)
    with Journal(journal_path(path)) as journal:
        if journal.cells and bool(journal.boxes) != over_boxes:
            how = (
                "over boxes: go on with --cluster or --hosts"
                if journal.boxes
                else "on one machine: go on without boxes"
            )
            raise BadInput(f"the sweep of {path} was begun {how}")
        begun = {"date": now.isoformat(timespec="seconds"), "llt_commit": known.llt_commit}
        journal.begin({**begun, "load_average": known.load_average})
        runs = [{key: row[key] for key in row if key not in _OF_THE_JOURNAL} for row in journal.begins]
        record = Record(path, planned, known, datetime.datetime.fromisoformat(str(runs[0]["date"])), runs)
        try:
            return record.finish(run(journal, record))
        except LltError as error:
            if journal.run == 1 and not _worth_keeping(journal):
                record.discard_if_empty()
                journal.path.unlink(missing_ok=True)
                raise
            if isinstance(error, Interrupted):
                count = sum(len(cell.rounds) for cell in journal.cells.values())
                error = Interrupted(f"{error}; rounds measured so far, in {path}: {count}")
            raise Stopped(error) from None


def _worth_keeping(journal: Journal) -> bool:
    """Whether anything was measured, or stopped by heat."""
    return any(cell.rounds or cell.status == "thermal" for cell in journal.cells.values())


def _sweep(planned: Plan, parts: Ready, device: identity.Device, options: Options, journal: Journal) -> Sweep:
    settings = planned.config
    digest = model_sha256(*parts.header.files)
    width = options.until_width
    servers, here = parts.servers, parts.build.manifest
    known = identity.identity(settings, digest, here.code_sha256, device, servers)
    executor = local.LocalExecutor(
        parts.model.absolute(),
        parts.build.path,
        MEASURED_SEED,
        model_sha256=digest,
        model_bytes=parts.header.file_size,
        driver=device.driver or "",
        states=home.depth_dir() if options.keep_prefills else None,
        states_cap=settings.depth_state.cap,
        servers={address: known[f"rpc {address}"] for address in servers},
    )
    free = {address: sum(each.free_bytes for each in server.devices) for address, server in servers.items()}
    return Sweep(
        planned,
        OverServers(executor, servers, here) if servers else executor,
        journal,
        known,
        Gate(Thermometer(MachineSensors(gpu=device.memory_bytes is not None)), settings.thermal),
        Room.now(parts.header, device, options.force, free),
        prefills=settings.prefills if options.keep_prefills else settings.rounds,
        fresh=settings.workers == "fresh",
        enough=(lambda outcomes: narrow_enough(outcomes, width)) if width is not None else None,
        most_rounds=options.most_rounds,
        remote_backends=frozenset(server.backend for server in servers.values()),
    )


def _run(sweep: Sweep, record: Record, show: Show) -> list[CellOutcome]:
    with show(sweep.plan, record.update) as sinks, heeding_signals(sweep.stop, sinks.stopping):
        sweep.sinks = sinks
        try:
            return sweep.run()
        except BaseException as ended:
            # On a full disk the journal has it all; the document is written when the sweep goes on.
            with contextlib.suppress(ResultNotWritten):
                record.update(sweep.outcomes())
            if isinstance(ended, KeyboardInterrupt):
                raise Interrupted("stopped") from None
            raise
