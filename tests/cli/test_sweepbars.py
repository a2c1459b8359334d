"""What a log hears of a sweep."""

from llamacpp_tools.cli import sweepbars
from llamacpp_tools.sweep.configfile import parse_config
from llamacpp_tools.sweep.plan import plan
from llamacpp_tools.sweep.protocol import Progress

RAW = {"name": "s", "model": "a.gguf", "modes": ["dense"], "depths": [4096], "workloads": ["narrative"]}


def test_a_long_phase_is_heard_of_where_there_is_no_terminal(monkeypatch, capsys):
    now = [1000.0]
    monkeypatch.setattr(sweepbars.time, "monotonic", lambda: now[0])
    planned = plan(parse_config(RAW, "s.yaml"))
    with sweepbars.bars(planned, lambda outcomes: None) as shown:
        for done in range(0, 4096, 512):
            now[0] += 9
            shown.event(planned.cells[0], Progress("prefill", 0, done, 4096))
    lines = capsys.readouterr().err.splitlines()
    # Eight events nine seconds apart: one line for each twenty seconds of silence.
    assert [line.rpartition(" ")[2] for line in lines] == ["1024/4096", "2560/4096"]
    assert lines[0].startswith("dense d4096, round 1 of 3: prefill")
