import sys
from pathlib import Path

import pytest

from llamacpp_tools.sweep.config import SweepConfig
from llamacpp_tools.sweep.configfile import parse_config
from llamacpp_tools.sweep.executor import LocalExecutor

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
