"""Runs a plan over boxes and writes its record: `results.measure` for more than this machine."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import llamacpp_tools
from llamacpp_tools.cluster import nodes
from llamacpp_tools.cluster.client import Connect, connected
from llamacpp_tools.cluster.coordinator import PATIENCE_S, Over
from llamacpp_tools.cluster.link import SILENCE_S
from llamacpp_tools.cluster.modelsearch import Wanted
from llamacpp_tools.cluster.parcel import Parcel, pack
from llamacpp_tools.cluster.security import Address, knock, security
from llamacpp_tools.cluster.sinks import BoxSinks
from llamacpp_tools.errors import BadInput
from llamacpp_tools.models.header import GgufHeader, check_gguf
from llamacpp_tools.results.measure import Keep, Options, Writing, recorded
from llamacpp_tools.results.provenance import checkout_state
from llamacpp_tools.results.record import Record, ResultNotWritten, resolved
from llamacpp_tools.results.schema import Document, Provenance
from llamacpp_tools.sweep.config import FileWorkload
from llamacpp_tools.sweep.fit import check_files, check_fit
from llamacpp_tools.sweep.identity import text_sha256
from llamacpp_tools.sweep.journal import Journal
from llamacpp_tools.sweep.modelfile import in_words, model_file, model_header
from llamacpp_tools.sweep.outcome import CellOutcome
from llamacpp_tools.sweep.plan import Plan, workload_label
from llamacpp_tools.sweep.stop import Stop, heeding_signals

if TYPE_CHECKING:
    from distributed import Client

Show = Callable[[Plan, Keep], contextlib.AbstractContextManager[BoxSinks]]


@dataclass(frozen=True)
class Waits:
    """How long a sweep waits for what is far away.

    Attributes:
        patience_s: for a box, where none can go on.
        silence_s: for an answer of a box.
    """

    patience_s: float = PATIENCE_S
    silence_s: float = SILENCE_S


@dataclass(frozen=True)
class Ready:
    """The model, and the build as it travels; no build is needed on this machine."""

    header: GgufHeader
    parcel: Parcel


def ready(planned: Plan, writing: Writing) -> Ready:
    """What boxes are told; what the user can mend is said before anything is started.

    Raises:
        BadInput: a file is missing, the plan does not fit the model, or the build cannot be made elsewhere.
    """
    settings = planned.config
    if any(cell.rpc for cell in planned.cells):
        raise BadInput(
            f"{settings.name} lays layers on RPC servers (`context.rpc`), whose addresses are this machine's: run it "
            "without boxes"
        )
    check_files(planned)
    check_fit(planned, model_header(settings.model))
    parcel = pack(settings.build.backend, settings.build.variant)
    with writing(in_words(settings.model)) as progress:
        header = check_gguf(model_file(settings.model, progress))
    check_fit(planned, header)
    return Ready(header, parcel)


def at(where: Address, certs: Path | None) -> Connect:
    """Connects to a running scheduler.

    Raises:
        LltError: it does not answer, or is not to be trusted.
    """
    nodes.settle()
    nodes.quiet()
    sealed = security("client", where, certs)
    knock(where, sealed)

    @contextlib.asynccontextmanager
    async def connect() -> AsyncIterator[Client]:
        from distributed import Client

        options = {"asynchronous": True, "set_as_default": False, "name": "llt-sweep", "timeout": 15}
        async with connected(Client(str(where), security=sealed, **options)) as client:
            yield client

    return connect


def measure(
    planned: Plan,
    parts: Ready,
    path: Path,
    connect: Connect,
    show: Show,
    options: Options | None = None,
    waits: Waits | None = None,
    now: datetime.datetime | None = None,
) -> Document:
    """Measure over boxes what the journal beside `path` lacks, and write the result there.

    Args:
        planned: the cells.
        parts: of `ready`.
        path: the result file.
        connect: opens the connection to the scheduler.
        show: how the sweep is shown.
        options: what else it is told.
        waits: how long it waits for boxes.
        now: the time.

    Raises:
        Stopped: it ended early; going on is possible.
        LltError: it ended before anything was measured, and left nothing behind.
    """
    asked, patience = options or Options(), waits or Waits()
    settings = planned.config
    order = {
        "config": resolved(settings),
        "parcel": parts.parcel.to_json(),
        "model": vars(Wanted.of(parts.header)),
        "texts": {
            # Bytes travel as they are: the hash is over bytes.
            workload_label(item): Path(item.file).read_bytes().decode("latin-1")
            for item in settings.workloads
            if isinstance(item, FileWorkload)
        },
        "identity": {f"text {workload_label(item)}": text_sha256(item) for item in settings.workloads},
        "options": asdict(asked),
    }

    def run(journal: Journal, record: Record) -> list[CellOutcome]:
        over = Over(planned, parts.header, order, asked, journal, record, stop=Stop())
        over.patience_s, over.silence_s = patience.patience_s, patience.silence_s
        with show(planned, record.update) as sinks, heeding_signals(over.stop, sinks.stopping):
            over.sinks = sinks
            try:
                return over.run(connect)
            except BaseException:
                with contextlib.suppress(ResultNotWritten):
                    record.update(over.outcomes())
                raise

    return recorded(planned, _known(parts), path, run, now, over_boxes=True)


def _known(parts: Ready) -> Provenance:
    commit, dirty = checkout_state(Path(llamacpp_tools.__file__).resolve().parent)
    return Provenance(
        source="measured",
        pin=parts.parcel.pin,
        series_digest=parts.parcel.series_digest,
        variant=parts.parcel.variant,
        llt_version=llamacpp_tools.__version__,
        llt_commit=commit,
        checkout_dirty=dirty,
        model_filename=parts.header.files[0].name,
    )
