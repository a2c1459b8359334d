import io
import json

import pytest

from llamacpp_tools.sweep.plan import plan
from llamacpp_tools.sweep.protocol import (
    Done,
    EventWriter,
    Failure,
    Loaded,
    Progress,
    ProtocolError,
    Request,
    RoundSample,
    decode_event,
    decode_request,
    encode_event,
    encode_request,
    read_request,
)

ROUND = RoundSample(0, 10, 100, 3, 90, [40, 50], [2, 1], [1, 0], 2, [4, 5, 6], 'caf\u00e9 "\n')


@pytest.mark.parametrize(
    "event",
    [
        Progress("prefill", 1, 5, 10),
        Loaded(1, 2, 256, "CPU", 2),
        Loaded(1, 2, 256, "CPU", 2, model_size=9, backends="CPU", gpu_info=""),
        Loaded(1, 2, 256, "RPC0 a:1", 2, layers={"RPC0 a:1": [0, 1], "CPU": []}),
        ROUND,
        Done(3),
        Failure("oom", "no room"),
    ],
)
def test_an_event_survives_the_pipe(event):
    line = encode_event(event)
    assert "\n" not in line
    assert decode_event(line) == event


def test_a_request_survives_and_leaves_the_stream_open(config):
    for spec in plan(config).cells:
        request = Request("m.gguf", "b.json", spec, 7)
        stream = io.StringIO(encode_request(request) + "\nrest")
        assert read_request(stream) == request
        assert stream.read() == "rest"


@pytest.mark.parametrize(
    "line",
    [
        "",
        "[]",
        "nonsense",
        '{"event": "loud"}',
        '{"event": "done"}',
        '{"event": "done", "rounds": "3"}',
        '{"event": "done", "rounds": true}',
        '{"event": "done", "rounds": 1, "more": 2}',
        '{"event": "progress", "phase": "nap", "round": 0, "done": 0, "total": 0}',
        '{"event": "error", "kind": "odd", "message": "x"}',
    ],
)
def test_a_wrong_event_is_refused(line):
    with pytest.raises(ProtocolError):
        decode_event(line)


@pytest.mark.parametrize(
    "change",
    [
        {"n_steps": 3},
        {"accepted": [1]},
        {"accepted": [3, 0]},
        {"decode_ns": 0},
        {"n_gen": -1},
        {"n_prompt": 0},
        {"tokens": ["4"]},
    ],
)
def test_a_round_that_contradicts_itself_is_refused(change):
    row = {**json.loads(encode_event(ROUND)), **change}
    with pytest.raises(ProtocolError):
        decode_event(json.dumps(row))


@pytest.mark.parametrize("line", ["", "{}", '{"model": "a", "manifest": "b", "spec": {}, "prompt_seed": 1}'])
def test_a_wrong_request_is_refused(line):
    with pytest.raises(ProtocolError):
        decode_request(line)


def test_an_ended_stream_is_said():
    with pytest.raises(ProtocolError, match="stdin ended"):
        read_request(io.StringIO(""))


def test_the_writer_flushes_each_line(tmp_path):
    path = tmp_path / "events"
    with path.open("w") as stream:
        send = EventWriter(stream)
        send(Done(1))
        assert decode_event(path.read_text()) == Done(1)
        assert send.sent == 1
