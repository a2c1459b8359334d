from __future__ import annotations

import itertools

import pytest

from llamacpp_tools.workloads.maintenance_log import LINE, chunks


def test_every_line_of_a_log_is_of_its_grammar() -> None:
    lines = "".join(itertools.islice(chunks(5), 200)).splitlines()
    assert len(lines) == 2000
    assert all(LINE.fullmatch(line) for line in lines)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("4.1", "4.7"),
        ("[day 0001", "[day 1"),
        ("00:00", "24:00"),
        ("pump A", "pump C"),
        (" bar", ""),
        ("found.", "found"),
    ],
)
def test_what_no_log_holds_is_not(right: str, wrong: str) -> None:
    line = "[day 0001 00:00] pump A inspected, pressure 4.1 bar, temperature 61 C, no leak found."
    assert LINE.fullmatch(line)
    assert not LINE.fullmatch(line.replace(right, wrong))
