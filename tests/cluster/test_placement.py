import pytest

from llamacpp_tools.cluster.placement import Queue, Task, lower_bound, weight
from llamacpp_tools.sweep.configfile import parse_config
from llamacpp_tools.sweep.plan import plan


def taken(queue: Queue, box: str, present=("a", "b")) -> int | None:
    task = queue.take(box, present)
    return task.index if task is not None else None


def test_the_longest_goes_first_and_each_goes_once():
    queue = Queue([Task(0, 1.0), Task(1, 5.0), Task(2, 3.0)])
    assert [taken(queue, "a"), taken(queue, "b")] == [1, 2]
    queue.done("a")
    assert taken(queue, "a") == 0
    assert taken(queue, "b") is None
    queue.done("a")
    queue.done("b")
    assert queue.empty


def test_what_a_box_has_begun_waits_for_it_as_long_as_there_is_something_else():
    queue = Queue([Task(0, 9.0, home="b"), Task(1, 1.0), Task(2, 0.5)])
    assert taken(queue, "a") == 1
    assert taken(queue, "b") == 0
    queue.give_back("b", begun=True)
    queue.done("a")
    assert taken(queue, "a") == 2
    queue.done("a")
    assert taken(queue, "a") == 0


def test_what_a_lost_box_had_begun_waits_for_nobody():
    queue = Queue([Task(0, 9.0, home="gone"), Task(1, 1.0)])
    assert taken(queue, "a") == 0


def test_a_lost_box_gives_back_what_it_was_at():
    queue = Queue([Task(0, 1.0)])
    taken(queue, "a")
    queue.give_back("a", begun=True)
    assert not queue.empty and queue.waiting[0].home == "a"
    assert taken(queue, "b") == 0
    queue.give_back("a", begun=True)  # it has nothing any more
    assert queue.running["b"].index == 0


def test_a_cell_goes_where_it_fits_and_where_none_fits_anywhere():
    queue = Queue([Task(0, 5.0, frozenset({0})), Task(1, 1.0, frozenset({1}))], too_large={"a": {0}})
    assert taken(queue, "a") == 1
    queue.done("a")
    assert taken(queue, "a") is None
    queue.too_large["b"] = {0}
    assert taken(queue, "a") == 0


def test_on_every_box_each_has_its_own():
    queue = Queue([Task(0, 1.0, only="a"), Task(0, 1.0, only="b")])
    assert taken(queue, "a") == 0 and taken(queue, "a") is None
    assert [task.only for task in queue.leaves("b")] == ["b"]


def test_the_bound():
    assert lower_bound([4.0, 4.0, 4.0], [1.0, 1.0]) == 6.0
    assert lower_bound([9.0, 1.0], [1.0, 2.0]) == 4.5
    assert lower_bound([], [1.0]) == 0.0


def test_deeper_and_longer_weighs_more():
    def cells(depth, predict):
        raw = {"name": "w", "model": "a.gguf", "modes": ["dense"], "depths": [depth], "workloads": ["code"]}
        return plan(parse_config({**raw, "generate": {"n_predict": predict}}, "w.yaml")).cells

    assert weight(cells(2000, 8)) > weight(cells(1000, 8)) > 0
    assert weight(cells(1000, 80)) > weight(cells(1000, 8))
    assert weight([]) == pytest.approx(0)
