"""A short, fixed matrix from a cold start, held against what this machine did before.

The baseline is a result file under `LLT_HOME/sanity`, named after what must not change: backend, variant, model and
machine. The library is no part of the name, as that is one of the things that may have changed. A yardstick without
any library is measured before and after each run and kept in the result's `runs`.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llamacpp_tools import home
from llamacpp_tools.build.manifest import Build, load
from llamacpp_tools.errors import BadInput, CheckFailed, Interrupted
from llamacpp_tools.models.digest import model_sha256
from llamacpp_tools.models.header import HYBRID_ARCHS, check_gguf
from llamacpp_tools.processor import cpu_info
from llamacpp_tools.results import yardstick
from llamacpp_tools.results.diagnosis import YARDSTICK, Diagnosis, code_differs, diagnose
from llamacpp_tools.results.document import read, write
from llamacpp_tools.results.measure import Options, Ready, Show, Stopped, Writing, measure, ready
from llamacpp_tools.results.schema import Document
from llamacpp_tools.sweep.config import SweepConfig
from llamacpp_tools.sweep.configfile import parse_config
from llamacpp_tools.sweep.plan import Plan, plan
from llamacpp_tools.sweep.runner import Sinks

ROUNDS = 5
DEPTH = 256
WINDOW = 128
N_PREDICT = 48
BUILD = "build"
_BALLAST = {"ballast_weights": "400MB", "ballast_kv": 2048}
_COLD = Options(keep_prefills=False)

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Checkup:
    """What came of a run.

    Attributes:
        now: what was measured.
        baseline: where the baseline lies.
        last: where `now` lies, if it is not the baseline itself.
        stored: whether `now` became the baseline.
        diagnosis: None on the first run, which has nothing to be held against.
    """

    now: Document
    baseline: Path
    last: Path | None
    stored: bool
    diagnosis: Diagnosis | None


def matrix(model: Path | None = None, backend: str = "cpu", variant: str = "patched") -> SweepConfig:
    """The fixed matrix: dense, and the most that the model can have beside it, at one shallow depth.

    Args:
        model: a GGUF file; None for the miniature with ballast.
        backend: of the build.
        variant: of the build; a stock one has no window.

    Raises:
        BadInput: the model is no GGUF file.
    """
    header = check_gguf(model) if model is not None else None
    windows = not variant.startswith("stock") and (header is None or header.arch in HYBRID_ARCHS)
    drafts = header is None or header.n_layer_nextn > 0
    both = "swa+mtp" if windows and drafts else "mtp" if drafts else "swa" if windows else None
    full = [11] if header is None else list(header.full_attention_layers[-1:])
    raw: dict[str, Any] = {
        "name": "sanity",
        "model": str(model) if model is not None else {"miniature": _BALLAST},
        "build": {"backend": backend, "variant": variant},
        "context": {"n_ubatch": 128},
        "modes": ["dense", *([both] if both else [])],
        "depths": [DEPTH],
        "workloads": ["maintenance_log"],
        "generate": {"n_predict": N_PREDICT},
        "rounds": ROUNDS,
        "prefills": ROUNDS,
    }
    if windows:
        raw["swa"] = {"window": WINDOW, "full_layers": full}
    return parse_config(raw, "the matrix of llt sanity")


def baseline_path(config: SweepConfig, parts: Ready) -> Path:
    """Where the baseline of this machine, model, backend and variant lies."""
    machine = f"{cpu_info()} {model_sha256(*parts.header.files)}"
    digest = hashlib.sha256(machine.encode()).hexdigest()[:10]
    stem = re.sub(r"[^A-Za-z0-9._-]", "-", parts.model.stem)[:60]
    return home.sanity_dir() / f"{config.build.variant}-{config.build.backend}-{stem}-{digest}.json"


def sanity(
    config: SweepConfig,
    baseline: Path | None,
    update: bool,
    fail_over: float,
    show: Show,
    writing: Writing,
    tell: Tell = lambda text: None,
) -> Checkup:
    """Measure the matrix and hold it against the baseline; without one, it becomes the baseline.

    Args:
        config: of `matrix`.
        baseline: a result file in place of the machine's own.
        update: make what is measured now the baseline.
        fail_over: the share by which it may be slower and still count as fast.
        show: how the sweep is shown.
        writing: shows how far a model has come that has to be written first.
        tell: told what is done beside that.

    Raises:
        BadInput: the baseline is no result file, or one of another matrix.
        CheckFailed: nothing could be measured, so there is nothing to store.
        Interrupted: the user stopped it; nothing is stored.
    """
    planned = plan(config)
    parts = ready(planned, writing)
    path = baseline or baseline_path(config, parts)
    then = read(path) if path.exists() else None
    if then is None and baseline is not None and not update:
        raise BadInput(f"there is no baseline {baseline}; --update writes one there")
    home.sanity_dir().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".run-", dir=home.sanity_dir()) as folder, _whole():
        now = _cold(planned, parts, Path(folder) / "now.json", show)
        if not any(cell.status == "ok" for cell in now.cells):
            raise CheckFailed(f"nothing could be measured: {now.cells[0].reason}")
        found = None
        if then is not None:
            found = diagnose(then, now, fail_over)
            if not found.across.matched and not update:
                raise BadInput(f"{path} holds no cell of this matrix: name another baseline, or --update it")
            old = old_build(then) if found.outcome == "slower" and code_differs(then, now) else None
            if old is not None:
                tell("slower, with another library than then: measuring the two in turns")
                beside = _in_turns(config, Ready(old, parts.model, parts.header), parts, Path(folder))
                found = diagnose(then, now, fail_over, beside)
    stored = then is None or update
    last = None if stored else home.sanity_dir() / f"{path.stem}.last.json"
    write(last or path, now)
    known = found if found is not None and found.across.matched else None
    return Checkup(now, path, last, stored, known)


def old_build(then: Document) -> Build | None:
    """The build that the baseline was measured with, if it is still there as it was."""
    name = str(then.runs[-1].get(BUILD, "")) if then.runs else ""
    if not name or Path(name).name != name:
        return None
    with contextlib.suppress(BadInput):
        found = load(home.builds_dir() / name / "manifest.json")
        if found.is_whole and found.manifest.library_sha256 == then.provenance.libllama_sha256:
            return found
    return None


def _cold(planned: Plan, parts: Ready, path: Path, show: Show) -> Document:
    before = yardstick.take()
    found = measure(planned, parts, path, show, _COLD)
    beside = {YARDSTICK: (before + yardstick.take()).model_dump(), BUILD: parts.build.folder.name}
    return found.model_copy(update={"runs": [*found.runs[:-1], {**found.runs[-1], **beside}]})


def _in_turns(config: SweepConfig, old: Ready, new: Ready, folder: Path) -> tuple[Document, Document]:
    """Both libraries, a round of each in turn; a journal each, which the next round goes on with."""
    found: dict[str, Document] = {}
    sides = {"old": old, "new": new}
    for number in range(1, config.rounds + 1):
        planned = plan(config.model_copy(update={"rounds": number}))
        for name in sides if number % 2 else reversed(sides):
            found[name] = measure(planned, sides[name], folder / f"{name}.json", _silent, _COLD)
    return found["old"], found["new"]


def _silent(planned: Plan, keep: object) -> contextlib.AbstractContextManager[Sinks]:
    return contextlib.nullcontext(Sinks())


@contextlib.contextmanager
def _whole() -> Iterator[None]:
    """A check that is stopped keeps nothing, so there is nothing to go on with."""
    try:
        yield
    except Stopped as stopped:
        if isinstance(stopped.why, Interrupted):
            raise Interrupted("stopped; nothing was stored") from None
        raise stopped.why from None
