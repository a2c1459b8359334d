import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from llamacpp_tools.errors import CheckFailed
from llamacpp_tools.sweep.configfile import parse_config
from llamacpp_tools.sweep.identity import Device, ask_device, driver_of, identity
from llamacpp_tools.sweep.journal import cell_key
from llamacpp_tools.sweep.plan import plan
from tests.rpc.conftest import identity_of

VULKAN = "ggml_vulkan: 0 = AMD Radeon 8060S (RADV GFX1151) (radv) | uma: 1 | fp16: 1"


def test_a_vulkan_driver_is_read_from_the_librarys_output():
    assert driver_of(f"some line\n{VULKAN}\n") == "radv"


def test_a_device_that_does_not_answer_is_said(tmp_path):
    with pytest.raises(CheckFailed, match="device cannot be asked"):
        ask_device(tmp_path / "manifest.json")


@pytest.mark.build
def test_the_cpu_answers_with_its_name(patched):
    device = ask_device(patched.path)
    assert device.name and device.memory_bytes is None


def test_each_part_changes_a_cells_key_and_nothing_else_does(raw):
    planned = plan(parse_config(raw, "small.yaml"))
    again = plan(parse_config({**raw, "rounds": 9, "name": "other"}, "small.yaml"))
    base = identity(planned.config, "m", "l", Device("CPU"))
    keys = {cell_key(cell, base) for cell in planned.cells}
    assert keys == {cell_key(cell, base) for cell in again.cells}
    for other in (
        identity(planned.config, "x", "l", Device("CPU")),
        identity(planned.config, "m", "x", Device("CPU")),
        identity(planned.config, "m", "l", Device("GPU")),
        identity(planned.config, "m", "l", Device("CPU", driver="x")),
        {**base, "text maintenance_log": "other words"},
    ):
        assert not keys & {cell_key(cell, other) for cell in planned.cells}


def test_a_key_from_before_a_kind_of_cell_was_there_stays_valid(raw):
    planned = plan(parse_config(raw, "small.yaml"))
    cell = planned.cells[2]
    known = identity(planned.config, "m", "l", Device("CPU"))
    row = cell.to_json()
    for later in ("forced", "auto", "traced", "draft_history", "before_norm", "rpc", "index", "rounds"):
        del row[later]
    own = {name: value for name, value in known.items() if name == f"text {cell.workload}" or " " not in name}
    text = json.dumps({"cell": row, "identity": own}, sort_keys=True, separators=(",", ":"))
    assert cell_key(cell, known) == hashlib.sha256(text.encode()).hexdigest()[:32]
    for change in ({"auto": True}, {"traced": True}, {"draft_history": False}, {"before_norm": True}):
        assert cell_key(replace(cell, **change), known) != cell_key(cell, known)


def test_the_server_behind_an_address_is_a_part_of_its_cells_keys_alone(raw):
    planned = plan(parse_config({**raw, "context": {"rpc": [[], ["a:1"], ["b:1", "a:1"]]}}, "small.yaml"))

    def keys(**servers):
        known = identity(planned.config, "m", "l", Device("CPU"), servers={"a:1": who, "b:1": who, **servers})
        return [cell_key(cell, known) for cell in planned.cells]

    who = identity_of()
    base, changed = keys(), keys(**{"b:1": identity_of(box="f" * 16)})
    assert len(set(base)) == len(planned.cells)
    same = [one == two for one, two in zip(base, changed, strict=True)]
    assert same == ["b:1" not in cell.rpc for cell in planned.cells]
    local = plan(parse_config({**raw, "context": {}}, "small.yaml"))
    known = identity(local.config, "m", "l", Device("CPU"))
    assert [cell_key(cell, known) for cell in local.cells] == base[: len(local.cells)]


def test_a_servers_port_is_no_part_of_a_key_and_its_host_is(raw):
    def keys(address):
        planned = plan(parse_config({**raw, "context": {"rpc": [address]}}, "small.yaml"))
        known = identity(planned.config, "m", "l", Device("CPU"), servers={address: identity_of()})
        return [cell_key(cell, known) for cell in planned.cells]

    assert keys("a:1") == keys("a:3") != keys("b:1")


def test_a_text_that_was_changed_is_another_text(raw, tmp_path):
    text = tmp_path / "a.txt"
    text.write_text("one")
    both = parse_config({**raw, "workloads": [{"file": str(text)}, "code"]}, "small.yaml")

    def keys(name):
        known = identity(both, "m", "l", Device("CPU"))
        return {
            cell_key(cell, known)
            for cell in plan(both).cells
            if (cell.workload == "code") == (name == "code")
        }

    mine, code = keys("file"), keys("code")
    Path(text).write_text("two")
    assert not keys("file") & mine
    assert keys("code") == code
