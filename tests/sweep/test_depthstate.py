"""Kept prefills: the files (with a state of plain bytes), and what they give in a real sweep."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from llamacpp_tools.build.manifest import Build
from llamacpp_tools.engine.generate import Filled
from llamacpp_tools.engine.state import Parts
from llamacpp_tools.sweep import depthstate
from llamacpp_tools.sweep.depthstate import Damaged, DepthStates, NotKept
from tests.conftest import Llt, home_without_states

FILLED = Filled(n_prompt=700, token=42, prefill_ns=123_456)
KEY = {"model": "m", "n_depth": 700}


class Bytes:
    """Stands for a session: its state is some bytes."""

    def __init__(self, state: bytes) -> None:
        self.state = state


@pytest.fixture
def states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DepthStates:
    """An empty folder of kept prefills, whose sessions are plain bytes."""

    def save(session: Bytes, parts: Parts, view: memoryview) -> None:
        view[:] = session.state

    def restore(session: Bytes, parts: Parts, view: memoryview) -> None:
        session.state = bytes(view)

    monkeypatch.setattr(depthstate, "parts_of", lambda session: Parts(len(session.state), 0, 0))
    monkeypatch.setattr(depthstate, "save", save)
    monkeypatch.setattr(depthstate, "restore", restore)
    monkeypatch.setattr(depthstate, "DISK_KEPT_FREE", 0)
    return DepthStates(tmp_path / "depth", cap_bytes=100_000)


def only_file(states: DepthStates) -> Path:
    (path,) = states.folder.iterdir()
    return path


def test_what_is_kept_is_found_and_put_back(states: DepthStates) -> None:
    assert states.find(KEY) is None
    states.keep(KEY, FILLED, Bytes(b"state" * 1000)).close()
    other = Bytes(b"")
    with states.find(KEY) as kept:
        assert kept.restore(other) == FILLED
    assert other.state == b"state" * 1000
    assert states.find({**KEY, "n_depth": 701}) is None
    assert states.used_bytes() == only_file(states).stat().st_size


def test_any_changed_byte_is_noticed_and_the_file_goes(states: DepthStates) -> None:
    rng = random.Random(5)
    for _ in range(40):
        states.keep(KEY, FILLED, Bytes(b"s" * 500)).close()
        path = only_file(states)
        raw = bytearray(path.read_bytes())
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        path.write_bytes(raw)
        with pytest.raises(Damaged, match="and is done again"):
            states.find(KEY)
        assert states.find(KEY) is None


@pytest.mark.parametrize("length", [0, 10, 8191, 8192, 8300, 8723])
def test_a_file_cut_short_is_noticed(states: DepthStates, length: int) -> None:
    states.keep(KEY, FILLED, Bytes(b"s" * 500)).close()
    os.truncate(only_file(states), length)
    with pytest.raises(Damaged):
        states.find(KEY)


def test_a_file_under_another_files_name_is_not_taken_for_it(states: DepthStates) -> None:
    states.keep(KEY, FILLED, Bytes(b"one")).close()
    first = only_file(states)
    other = {**KEY, "model": "n"}
    states.keep(other, FILLED, Bytes(b"two")).close()
    second = next(path for path in states.folder.iterdir() if path != first)
    shutil.copy(second, first)
    with pytest.raises(Damaged, match="belongs to something else"):
        states.find(KEY)


def test_what_was_used_longest_ago_goes_first(states: DepthStates) -> None:
    size = 20_000
    for number in range(3):
        states.keep({"n": number}, FILLED, Bytes(b"x" * size)).close()
        path = states._path({"n": number})
        os.utime(path, ns=(number, number))
    states.find({"n": 0}).close()  # the oldest, but used now
    states.keep({"n": 3}, FILLED, Bytes(b"x" * size)).close()
    there = [number for number in range(4) if states._path({"n": number}).exists()]
    assert there == [0, 2, 3]
    assert states.used_bytes() <= states.cap_bytes


def test_what_is_larger_than_the_cap_or_the_disk_is_not_kept(states: DepthStates, monkeypatch: Any) -> None:
    with pytest.raises(NotKept, match=r"raise `depth_state.cap`"):
        states.keep(KEY, FILLED, Bytes(b"x" * 200_000))
    monkeypatch.setattr(depthstate, "DISK_KEPT_FREE", 1 << 60)
    with pytest.raises(NotKept, match="disk"):
        states.keep(KEY, FILLED, Bytes(b"x"))
    assert list(states.folder.iterdir()) == []


def test_a_failing_save_leaves_nothing(states: DepthStates, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(depthstate, "save", fail)
    with pytest.raises(NotKept, match="No space left on device"):
        states.keep(KEY, FILLED, Bytes(b"x"))
    assert list(states.folder.iterdir()) == []


CONFIG = """
name: kept
model: {synth: tiny}
build: {backend: cpu}
context: {n_ubatch: 64, threads: 2, flash_attn: true, type_kv: [f16, q4_1]}
swa: {window: 64, full_layers: [7]}
draft: {n_max: [2, 3]}
modes: [dense, swa, mtp, swa+mtp]
depths: [700]
workloads: [maintenance_log]
generate: {n_predict: 40}
rounds: 2
"""


class Kept:
    """Runs the sweep above, each time with the same kept prefills and with no other."""

    def __init__(self, llt: Llt, folder: Path, build: Build) -> None:
        self._llt, self._folder, self._count = llt, folder, 0
        self._home = home_without_states(folder, build)
        self.states = self._home / "depth"
        (folder / "kept.yaml").write_text(CONFIG)

    def __call__(self, *words: str) -> dict[str, Any]:
        self._count += 1
        out = self._folder / f"{self._count}.json"
        sweep = ("sweep", self._folder / "kept.yaml", "--json", "--out", out)
        done = self._llt(*sweep, *words, env={"LLT_HOME": str(self._home)})
        assert done.returncode == 0, done.stderr
        document: dict[str, Any] = json.loads(done.stdout)
        assert {cell["status"] for cell in document["cells"]} == {"ok"}, document["caveats"]
        return document


@pytest.mark.build
def test_restored_prefills_give_the_same_tokens_in_every_mode(
    llt: Llt, tmp_path: Path, patched: Build
) -> None:
    sweep = Kept(llt, tmp_path, patched)
    true = sweep("--no-depth-state")
    assert {sample["filled"] for cell in true["cells"] for sample in cell["samples"]} == {"prefill"}
    assert not sweep.states.exists()

    first = sweep()
    filled = {
        (cell["mode"], cell["n_max"]): [s["filled"] for s in cell["samples"]] for cell in first["cells"]
    }
    # The longer draft restores what the shorter one kept; without MTP nothing is shared.
    assert filled["dense", None] == filled["swa", None] == filled["mtp", 2] == ["prefill", "restored"]
    assert filled["mtp", 3] == filled["swa+mtp", 3] == ["restored", "restored"]
    assert len(list(sweep.states.glob("*.depth"))) == 8

    second = sweep()
    assert {sample["filled"] for cell in second["cells"] for sample in cell["samples"]} == {"restored"}
    assert second["depth_state_check"]["first_divergence"] is None
    tokens = [[cell["output_tokens"] for cell in document["cells"]] for document in (true, first, second)]
    assert tokens[0] == tokens[1] == tokens[2]
    assert all(cell["prefill_tps"] for cell in second["cells"])

    for path in sweep.states.glob("*.depth"):
        raw = bytearray(path.read_bytes())
        raw[len(raw) // 2] ^= 4
        path.write_bytes(raw)
    third = sweep()
    damaged = [cell for cell in third["cells"] if any("damaged" in note for note in cell["notes"])]
    assert len(damaged) == 8
    assert [cell["output_tokens"] for cell in third["cells"]] == tokens[0]
