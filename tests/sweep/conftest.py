import sys
from pathlib import Path

import pytest

from llamacpp_tools.sweep.config import SweepConfig, ThermalConfig
from llamacpp_tools.sweep.configfile import parse_config
from llamacpp_tools.sweep.gate import Gate
from llamacpp_tools.sweep.heat import Reading, Thermometer
from llamacpp_tools.sweep.journal import Journal, journal_path
from llamacpp_tools.sweep.local import LocalExecutor
from llamacpp_tools.sweep.plan import plan
from llamacpp_tools.sweep.runner import Sinks, Sweep

FAKE_WORKER = Path(__file__).with_name("fake_worker.py")


@pytest.fixture
def raw():
    """A small sweep file's mapping, to be changed by a test."""
    return {
        "name": "small",
        "model": "a.gguf",
        "swa": {"window": 128, "full_layers": [7]},
        "modes": ["dense", "swa", "mtp", "swa+mtp"],
        "depths": [700],
        "workloads": ["maintenance_log"],
        "context": {"n_ubatch": 128},
        "generate": {"n_predict": 12},
        "rounds": 2,
    }


@pytest.fixture
def config(raw) -> SweepConfig:
    return parse_config(raw, "small.yaml")


@pytest.fixture
def limits() -> ThermalConfig:
    """Limits of heat."""
    return ThermalConfig(abort_c=90.0, resume_c=70.0)


class Runs:
    """Opens the journal of one test's sweep."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self) -> Journal:
        with Journal(journal_path(self.path)) as journal:
            return journal


@pytest.fixture
def journal(tmp_path) -> Runs:
    """The journal of the sweeps of `run`."""
    return Runs(tmp_path / "r.json")


@pytest.fixture
def run(raw, executor, journal):
    """Runs the small sweep with the fake worker, on one journal; a second call is a resumed run."""

    def go(how="ok", *, identity=None, peek=False, sinks=None, gate=None, **more):
        changes = {name: more.pop(name) for name in list(more) if name in SweepConfig.model_fields}
        asked = more.pop("planned", lambda usual: usual)
        planned = asked(plan(parse_config({**raw, **changes}, "small.yaml")))
        with Journal(journal_path(journal.path)) as open_journal:
            sweep = Sweep(
                planned,
                executor(how),
                open_journal,
                identity or {"model": "a", "libraries": "b", "device": "CPU", "driver": ""},
                gate or Gate(Thermometer(NoSensors())),
                sinks=sinks or Sinks(),
                **more,
            )
            if peek:
                return sweep.outcomes()
            if sinks is not None:
                sinks.stop = sweep.stop
            open_journal.begin({"date": "today"})
            return sweep.run()

    return go


class NoSensors:
    """A machine without sensors."""

    def read(self) -> Reading:
        return Reading()


@pytest.fixture
def executor(tmp_path):
    """Makes an executor whose worker is the fake one."""

    def make(how: str = "ok", **more) -> LocalExecutor:
        return LocalExecutor(
            model=tmp_path / "a.gguf",
            manifest=tmp_path / "manifest.json",
            prompt_seed=1,
            command=(sys.executable, str(FAKE_WORKER)),
            env={"FAKE_WORKER": how, "FAKE_PIDS": str(tmp_path / "pids.json")},
            **more,
        )

    return make
