"""What becomes of a cell whose RPC servers are gone, busy, or others; the servers here only say who they are."""

import itertools
import time
from types import SimpleNamespace

import pytest

from llamacpp_tools.errors import CheckFailed
from llamacpp_tools.rpc.identity import NoAnswer
from llamacpp_tools.sweep.configfile import parse_config
from llamacpp_tools.sweep.executor import CellFault
from llamacpp_tools.sweep.plan import plan
from llamacpp_tools.sweep.protocol import Progress, RoundOrder
from llamacpp_tools.sweep.servers import OverServers, servers_of
from tests.rpc.conftest import identity_of

HERE = SimpleNamespace(tree=identity_of().tree, variant="patched", pin="b9842", series_digest="cd" * 32)
ORDER = RoundOrder(0, True, False)
HUNG_UP = "Remote RPC server crashed or returned malformed response at ggml/src/ggml-rpc/ggml-rpc.cpp:488"


class Answers:
    """Servers by address: who they are, or None for one that is gone."""

    def __init__(self, **servers):
        self.now = {f"{host}:1": found for host, found in servers.items()}
        self.asked = []

    def __call__(self, address):
        self.asked.append(address)
        found = self.now[address]
        found = next(found) if isinstance(found, itertools.cycle | itertools.chain) else found
        if found is None:
            raise NoAnswer(f"{address} does not answer")
        return found


class Inner:
    """Opens a station that does what the test says."""

    def __init__(self, act):
        self._act = act
        self.loaded, self.pid, self.is_closed = "loaded", 7, False

    def open(self, spec, on_event, watch):
        return self

    def round(self, order, on_event, watch):
        return self._act(on_event, watch)

    def close(self):
        self.is_closed = True


@pytest.fixture
def spec(raw):
    return plan(parse_config({**raw, "context": {"rpc": ["a:1", "b:1"]}}, "x")).cells[0]


def over(answers, act=lambda on_event, watch: "a round", **more):
    known = {"a:1": identity_of(), "b:1": identity_of()}
    return OverServers(Inner(act), known, HERE, answers, **more)


def opened(executor, spec):
    return executor.open(spec, lambda event: None, lambda: None)


def fault_of(station) -> CellFault:
    with pytest.raises(CellFault) as told:
        station.round(ORDER, lambda event: None, lambda: None)
    return told.value


def raising(fault, before=lambda: None):
    def act(on_event, watch):
        before()
        raise fault

    return act


def test_a_cell_with_its_servers_is_measured_and_one_without_asks_nobody(spec, raw):
    answers = Answers(a=identity_of(), b=identity_of())
    station = opened(over(answers), spec)
    assert answers.asked == ["a:1", "b:1"]
    assert (station.round(ORDER, None, None), station.loaded, station.pid) == ("a round", "loaded", 7)
    station.close()
    answers.asked.clear()
    opened(over(answers), plan(parse_config(raw, "x")).cells[0])
    assert answers.asked == []


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (None, "not begun: b:1 does not answer"),
        (identity_of(tree="0" * 40), "not begun: the RPC server b:1 is of another build"),
        (identity_of(box="9" * 16), "b:1 is not the one that the sweep began with"),
        (identity_of(busy=True), "b:1 has served somebody else for 0 s, and it serves one at a time"),
    ],
)
def test_a_cell_without_its_server_is_not_begun(spec, found, words):
    with pytest.raises(CellFault) as told:
        opened(over(Answers(a=identity_of(), b=found), busy_s=0.2), spec)
    assert told.value.status == "skipped"
    assert words in str(told.value)


def test_a_server_that_has_yet_to_let_go_is_waited_for(spec):
    busy = itertools.chain([identity_of(busy=True)] * 3, itertools.repeat(identity_of()))
    assert opened(over(Answers(a=identity_of(), b=busy), busy_s=5), spec) is not None


def test_a_server_that_was_restarted_as_it_was_is_taken(spec):
    assert opened(over(Answers(a=identity_of(), b=identity_of(started="9" * 16))), spec) is not None


def test_a_dead_worker_names_the_server_that_died(spec):
    answers = Answers(a=identity_of(), b=identity_of())
    died = raising(CellFault("crashed", HUNG_UP), lambda: answers.now.update({"b:1": None}))
    fault = fault_of(opened(over(answers, died), spec))
    assert fault.status == "crashed"
    assert fault.reason == f"the RPC server b:1 died, or cannot be reached any more; the worker: {HUNG_UP}"


def test_one_that_is_there_again_is_named_too(spec):
    answers = Answers(a=identity_of(), b=identity_of())
    again = raising(
        CellFault("crashed", HUNG_UP), lambda: answers.now.update({"a:1": identity_of(started="9" * 16)})
    )
    assert fault_of(opened(over(answers, again), spec)).reason.startswith(
        "the RPC server a:1 ended and was started"
    )


def test_a_hang_up_of_servers_that_live_names_them_all(spec, monkeypatch):
    monkeypatch.setattr("llamacpp_tools.sweep.servers.SETTLE_S", 0.2)
    answers = Answers(a=identity_of(), b=identity_of())
    fault = fault_of(opened(over(answers, raising(CellFault("crashed", HUNG_UP))), spec))
    assert fault.reason.startswith(
        "one of the RPC servers a:1, b:1 hung up and is there again; the worker: Remote"
    )


def test_a_fault_of_the_workers_own_stays_what_it_was(spec):
    own = CellFault("invalid", "the recipe is wrong", bad_input=True, stderr_tail="x")
    answers = Answers(a=identity_of(), b=identity_of())
    assert fault_of(opened(over(answers, raising(own)), spec)) is own


def test_a_silent_worker_has_its_servers_asked_and_a_busy_one_has_not(spec):
    answers = Answers(a=identity_of(), b=identity_of())

    def lively(on_event, watch):
        for done in range(6):
            time.sleep(0.04)
            on_event(Progress("decode", 0, done, 6))
            watch()
        return "a round"

    def silent(on_event, watch):
        answers.now["b:1"] = None
        for _ in range(100):
            time.sleep(0.04)
            watch()
        return "too late"

    station = opened(over(answers, lively, silent_s=0.1), spec)
    asked = len(answers.asked)
    assert station.round(ORDER, lambda event: None, lambda: None) == "a round"
    assert len(answers.asked) == asked
    fault = fault_of(opened(over(answers, silent, silent_s=0.1), spec))
    assert (fault.status, fault.reason) == (
        "crashed",
        "the RPC server b:1 died, or cannot be reached any more",
    )


def test_all_servers_of_a_plan_are_asked_once_and_must_be_of_this_build(raw):
    planned = plan(parse_config({**raw, "context": {"rpc": [[], ["a:1"], ["a:1", "b:1"]]}}, "x"))
    answers = Answers(a=identity_of(), b=identity_of(started="9" * 16))
    assert servers_of(planned, HERE, answers) == {"a:1": identity_of(), "b:1": identity_of(started="9" * 16)}
    assert answers.asked == ["a:1", "b:1"]
    with pytest.raises(CheckFailed, match="a:1 is of another build"):
        servers_of(planned, HERE, Answers(a=identity_of(tree="0" * 40), b=None))
    assert servers_of(plan(parse_config(raw, "x")), HERE, Answers()) == {}
