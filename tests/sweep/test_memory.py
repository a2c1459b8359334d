from dataclasses import replace

import pytest

from llamacpp_tools.models.header import check_gguf
from llamacpp_tools.models.memory import USABLE
from llamacpp_tools.sweep import memory
from llamacpp_tools.sweep.cell import context_size
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
    slow = replace(deep[0], flash_attn=False)
    half = replace(slow, n_depth=32768, n_ctx=context_size(32768, slow.n_predict, slow.n_max))
    enough = int(memory.need(header, half).total / USABLE) + 1
    assert "a depth of 32768 would fit" in memory.too_large(header, slow, enough)
    assert memory.too_large(header, deep[0], 1 << 20).endswith("no smaller cache or depth would fit")


def test_workers_share_the_weights_on_a_cpu_and_not_on_a_gpu(header, deep):
    needs = [memory.need(header, cell) for cell in deep[:2]]
    shared = (needs[0].weights + sum(each.own for each in needs)) / USABLE + 1
    cpu = Room(header, int(shared))
    assert cpu.holds(deep[:2])
    assert not Room(header, 0, gpu_free_bytes=int(shared)).holds(deep[:2])
    assert Room(header, 0, gpu_free_bytes=2 * int(shared)).holds(deep[:2])
    assert replace(cpu, free_bytes=0).holds(deep[:1])
    assert replace(cpu, free_bytes=0).refusal(deep[0])
    assert replace(cpu, free_bytes=0, forced=True).refusal(deep[0]) is None


def test_the_room_is_the_gpus_where_the_layers_go_there(header, deep):
    gpu = Device("Vulkan0", memory_bytes=8 << 30, free_bytes=5 << 30)
    assert Room.now(header, gpu, False).gpu_free_bytes == 5 << 30
    small = Room(header, 1 << 40, gpu_free_bytes=1 << 20)
    assert small.refusal(deep[0])
    assert small.refusal(replace(deep[0], n_gpu_layers=0)) is None
    assert small.refusal(replace(deep[0], n_gpu_layers=3)) is None
    assert not Room(header, 1 << 40, 1 << 40).holds([replace(cell, n_gpu_layers=3) for cell in deep])
    assert Room.now(header, Device("CPU"), True).forced


def test_servers_hold_a_cell_together_and_one_cell_at_a_time(header, deep):
    need = memory.need(header, deep[0]).total
    half = int(need / USABLE / 2) + 1
    over = [replace(cell, rpc=("a:1", "b:1")) for cell in deep[:2]]
    room = Room.now(header, Device("CPU"), False, {"a:1": half, "b:1": half})
    assert room.refusal(over[0]) is None
    assert "are free" in room.refusal(replace(over[0], rpc=("a:1",)))
    assert Room.now(header, Device("CPU"), False).refusal(over[0])
    assert room.refusal(replace(over[0], n_gpu_layers=3)) is None
    assert not Room(header, 1 << 40, rpc_free_bytes={"a:1": 1 << 40, "b:1": 1 << 40}).holds(over)


def test_the_kv_bytes_without_a_window_are_those_of_dense(header, deep):
    room = Room(header, 1 << 40)
    assert room.full_kv_bytes(deep[1]) == room.full_kv_bytes(deep[0]) > 0
