import itertools
import json

from llamacpp_tools.workloads import extraction


def test_each_record_parses_and_says_what_its_sentence_says():
    for order, line in itertools.islice(extraction.orders(11), 200):
        found = json.loads(order.json_line)
        assert list(found) == extraction.TASK.split("keys ")[1].split(".")[0].replace(" and", ",").replace(
            ",,", ","
        ).split(", ")
        for key, value in found.items():
            told = order.price if key == "price" else str(value)
            assert told in line
        assert f'"price": {order.price},' in order.json_line


def test_the_chunks_are_the_lines_of_the_orders():
    lines = [line for _, line in itertools.islice(extraction.orders(5), 30)]
    assert list(itertools.islice(extraction.chunks(5), 30)) == lines


def test_the_task_ends_where_a_record_goes_on():
    order, _ = next(extraction.orders(1))
    assert order.json_line.startswith(extraction.TASK.splitlines()[-1])
