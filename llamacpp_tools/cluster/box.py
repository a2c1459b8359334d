"""What runs on a box. A sweep calls these functions by name, so that no code but llt's own is run for it.

The identity and the short answers come from the worker's loop (`Client.run`); building and measuring are Dask tasks,
which take the box's one `box`, so that it does one thing at a time whoever asks.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

import llamacpp_tools
from llamacpp_tools import home
from llamacpp_tools.build.manifest import Build
from llamacpp_tools.cluster import modelsearch
from llamacpp_tools.cluster.job import Job, Row
from llamacpp_tools.cluster.parcel import Parcel, unpack
from llamacpp_tools.cluster.relay import LeasedGate, Relay, RelaySinks, TextExecutor
from llamacpp_tools.errors import BadInput, Interrupted, LltError
from llamacpp_tools.files import write_atomic
from llamacpp_tools.models.header import GgufHeader
from llamacpp_tools.processor import cpu_info
from llamacpp_tools.results.asked import as_written
from llamacpp_tools.results.precision import narrow_enough
from llamacpp_tools.results.provenance import provenance
from llamacpp_tools.sweep import identity
from llamacpp_tools.sweep.cell import CellSpec
from llamacpp_tools.sweep.config import FileWorkload, SweepConfig
from llamacpp_tools.sweep.heat import MachineSensors, Thermometer
from llamacpp_tools.sweep.plan import Plan
from llamacpp_tools.sweep.room import Room
from llamacpp_tools.sweep.runner import Sweep, SweepStopped
from llamacpp_tools.workloads import MEASURED_SEED
from llamacpp_tools.workloads.cut import FILE_PREFIX

log = logging.getLogger(__name__)

# Changes with what travels between a sweep and a box.
PROTOCOL = 1
_KEPT_JOBS = 64


@dataclass
class Prepared:
    """A sweep's build, model, texts and device on this box."""

    config: SweepConfig
    build: Build
    header: GgufHeader
    sha256: str
    device: identity.Device
    identity: dict[str, str]
    texts: dict[str, str]


@dataclass
class Box:
    """This process as a box.

    Attributes:
        name: what rows say.
        models: folders where models are looked for.
        rebuild: a build of another series may be replaced.
        jobs: by id.
        sweeps: what is prepared, by the sweep's id.
    """

    name: str
    models: tuple[Path, ...] = ()
    rebuild: bool = False
    jobs: dict[str, Job] = field(default_factory=dict)
    sweeps: dict[str, Prepared] = field(default_factory=dict)


_here: Box | None = None


def open_here(name: str, models: tuple[str, ...] = (), rebuild: bool = False) -> None:
    """Make this process a box; called by the worker as it starts."""
    global _here  # noqa: PLW0603 - Dask calls plain functions, which have to find the box that they run on
    _here = Box(name, tuple(Path(folder).expanduser() for folder in models), rebuild)


def abandon() -> None:
    """Nobody can be answered any more: whatever runs ends at once."""
    for job in _here.jobs.values() if _here is not None else ():
        job.lost = True


def _box() -> Box:
    if _here is None:
        raise LltError("this worker is no box: join it with `llt worker`")
    return _here


async def greet() -> Row:
    """Who this is."""
    found = _box()
    memory = psutil.virtual_memory()
    reading = MachineSensors(gpu=True).read()
    sensors = {name: value is not None for name, value in dataclasses.asdict(reading).items()}
    return {
        "protocol": PROTOCOL,
        "llt_version": llamacpp_tools.__version__,
        "name": found.name,
        "cpu": cpu_info(),
        "threads": psutil.cpu_count(),
        "memory_bytes": int(memory.total),
        "gpu": _gpu(),
        "driver": identity.driver_of(""),
        "sensors": sorted(name for name, there in sensors.items() if there),
    }


async def accept(job_id: str, order: Row, lease_s: float) -> None:
    """Take an order; the task that `work`s it follows."""
    jobs = _box().jobs
    for old in list(jobs)[: max(0, len(jobs) - _KEPT_JOBS)]:
        jobs.pop(old)
    jobs[job_id] = Job(order, lease_s)


async def poll(job_id: str, have: int, wait_s: float) -> Row:
    """What is new of a job (see `Job.poll`)."""
    return await _job(job_id).poll(have, wait_s)


async def stop(job_id: str, at_once: bool) -> None:
    """End a job after the round that runs, or at once."""
    job = _job(job_id)
    job.stop.asked = True
    job.lost = job.lost or at_once


def work(job_id: str) -> None:
    """Do what was ordered; a Dask task."""
    job = _job(job_id)
    job.begin()
    steps: dict[str, Callable[[Job], Row]] = {"prepare": _prepare, "measure": _measure}
    try:
        job.check()
        job.end({"how": "done", **steps[job.order["what"]](job)})
    except Interrupted as stopped:
        job.end({"how": "stopped", "reason": str(stopped)})
    except SweepStopped as hot:
        job.end({"how": "hot", "reason": str(hot)})
    except BadInput as wrong:
        job.end({"how": "bad_input", "reason": str(wrong)})
    except LltError as error:
        job.end({"how": "failed", "reason": str(error)})
    except BaseException as error:
        log.exception("a job failed")
        job.end({"how": "failed", "reason": f"{type(error).__name__}: {error}"})


def _job(job_id: str) -> Job:
    try:
        return _box().jobs[job_id]
    except KeyError:
        raise LltError(f"the box {_box().name} knows of no job {job_id}: it has been started again") from None


def _prepare(job: Job) -> Row:
    box, order = _box(), job.order
    config = SweepConfig.model_validate(as_written(order["config"]))

    def building(done: int, total: int, doing: str) -> None:
        job.check()
        job.tell({"doing": f"building: {doing}" if not total else "building", "done": done, "total": total})

    build = unpack(Parcel.from_json(order["parcel"]), building, rebuild=box.rebuild)
    job.tell({"doing": "looking for the model", "done": 0, "total": 0})
    wanted = modelsearch.from_json(order["model"])
    header = modelsearch.find(wanted, config.model, box.models)
    texts = {label: _kept_text(text) for label, text in order["texts"].items()}
    device = identity.ask_device(build.path)
    local = _with_texts(config, texts)
    known = identity.identity(local, wanted.sha256, build.manifest.code_sha256, device)
    for label, path in texts.items():
        known[f"text {label}"] = known.pop(f"text {FILE_PREFIX}{path}")
    known["box"] = box.name
    ready = Prepared(config, build, header, wanted.sha256, device, known, texts)
    box.sweeps = {order["sweep"]: ready}
    room = Room.now(header, device, order["options"]["force"])
    cells = [CellSpec.from_json(row) for row in order["cells"]]
    return {
        "identity": known,
        "provenance": provenance(build.data, header.files[0], device.driver).model_dump(mode="json"),
        "too_large": [spec.index for spec in cells if room.refusal(spec) is not None],
    }


def _measure(job: Job) -> Row:
    box, order = _box(), job.order
    ready = box.sweeps.get(order["sweep"])
    if ready is None:
        raise LltError(f"the box {box.name} has nothing prepared for this sweep: it has been started again")
    options, config = order["options"], ready.config
    width = options["until_width"]
    ledger = Relay(job, order["run"], order["history"])
    sweep = Sweep(
        Plan(config, tuple(CellSpec.from_json(row) for row in order["cells"])),
        TextExecutor(
            ready.header.files[0].absolute(),
            ready.build.path,
            MEASURED_SEED,
            model_sha256=ready.sha256,
            model_bytes=ready.header.file_size,
            driver=ready.device.driver or "",
            states=home.depth_dir() if options["keep_prefills"] else None,
            states_cap=config.depth_state.cap,
            texts=ready.texts,
        ),
        ledger,
        ready.identity,
        LeasedGate(
            Thermometer(MachineSensors(gpu=ready.device.memory_bytes is not None)), config.thermal, job=job
        ),
        Room.now(ready.header, ready.device, options["force"]),
        stop=job.stop,
        sinks=RelaySinks(job),
        prefills=config.prefills if options["keep_prefills"] else config.rounds,
        fresh=config.workers == "fresh",
        enough=(lambda outcomes: narrow_enough(outcomes, width)) if width is not None else None,
        most_rounds=options["most_rounds"],
        check_kept=order["check_kept"],
        # With the verdict the journal forgets a cell's rounds, which the result is still to show.
        verdicts=False,
    )
    sweep.run()
    return {}


def _kept_text(text: str) -> str:
    """A text of the user's own, as a file of this box that is named by its content."""
    raw = text.encode("latin-1")
    path = home.llt_home() / "cluster" / f"{hashlib.sha256(raw).hexdigest()[:32]}.txt"
    if not path.is_file():
        with write_atomic(path) as part:
            part.write_bytes(raw)
    return str(path)


def _with_texts(config: SweepConfig, texts: dict[str, str]) -> SweepConfig:
    named = tuple(
        FileWorkload(file=texts[FILE_PREFIX + item.file]) if isinstance(item, FileWorkload) else item
        for item in config.workloads
    )
    return config.model_copy(update={"workloads": named})


def _gpu() -> str | None:
    """The GPU's name where its driver tells it without a library being loaded."""
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("Model:"):
                return line.removeprefix("Model:").strip()
    for path in sorted(Path("/sys/class/drm").glob("card?/device/uevent")):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("DRIVER="):
                return f"a GPU of the driver {line.removeprefix('DRIVER=')}"
    return None
