from dataclasses import replace

import pytest

from llamacpp_tools.models.header import check_gguf
from llamacpp_tools.sweep import memory
from llamacpp_tools.sweep.identity import Device
from llamacpp_tools.sweep.plan import plan
from llamacpp_tools.sweep.room import Room


@pytest.fixture
def header(tiny):
    return check_gguf(tiny)


@pytest.fixture
def deep(config):
    """The four modes at a depth of 65,536."""
    return [replace(cell, n_depth=65536, n_ctx=65792) for cell in plan(config).cells]


def test_the_parts_of_a_need(header, deep):
    dense, swa, mtp, both = (memory.need(header, cell) for cell in deep)
    assert dense.weights == sum(tensor.n_bytes for tensor in header.tensors)
    assert swa.kv < dense.kv < mtp.kv
    assert both.kv < mtp.kv
    assert mtp.compute > dense.compute
    assert dense.own == dense.total - dense.weights


def test_what_fits_is_not_refused(header, deep):
    assert memory.too_large(header, deep[0], 1 << 40) is None


def test_what_does_not_fit_is_said_with_what_would(header, deep):
    wanted = memory.need(header, deep[0])
    reason = memory.too_large(header, deep[0], wanted.total)
    assert reason.startswith("it needs about ") and reason.endswith("q8_0 for type_k and type_v would fit")
    tight = wanted.weights + memory.PROCESS_BYTES + wanted.compute + wanted.kv // 8
    assert "a depth of 32768 would fit" in memory.too_large(
        header, replace(deep[0], flash_attn=False), tight * 2
    )
    assert memory.too_large(header, deep[0], 1 << 20).endswith("no smaller cache or depth would fit")


def test_a_control_group_bounds_the_free_memory(tmp_path, monkeypatch):
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("700000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 100000\nactive_file 50000\n")
    monkeypatch.setattr(memory, "_control_group", lambda: tmp_path)
    assert memory.free_memory() == 450000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.free_memory() > 1 << 24
    (tmp_path / "memory.max").unlink()
    assert memory.free_memory() > 1 << 24


def test_workers_share_the_weights_on_a_cpu_and_not_on_a_gpu(header, deep):
    needs = [memory.need(header, cell) for cell in deep[:2]]
    shared = (needs[0].weights + sum(each.own for each in needs)) / memory.USABLE + 1
    cpu = Room(header, int(shared), shared_weights=True)
    assert cpu.holds(deep[:2])
    assert not replace(cpu, shared_weights=False).holds(deep[:2])
    assert replace(cpu, free_bytes=0).holds(deep[:1])
    assert replace(cpu, free_bytes=0).refusal(deep[0])
    assert replace(cpu, free_bytes=0, forced=True).refusal(deep[0]) is None


def test_the_room_is_the_gpus_where_the_layers_go_there(header):
    gpu = Device("Vulkan0", memory_bytes=8 << 30, free_bytes=5 << 30)
    assert Room.on(header, gpu, "all", False) == Room(header, 5 << 30, shared_weights=False)
    assert Room.on(header, gpu, 0, False).shared_weights
    assert Room.on(header, Device("CPU"), "all", True).forced
