"""What this machine has free; what a mode needs is compared with libllama in `tests/engine/test_memory.py`."""

from llamacpp_tools.models import memory


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
