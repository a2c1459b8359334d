import asyncio
import threading
import time

import pytest

from llamacpp_tools.cluster.job import Job
from llamacpp_tools.errors import Interrupted


def test_entries_stay_until_the_sweep_has_them():
    job = Job({})
    job.emit({"n": 0})
    job.emit({"n": 1})
    first = asyncio.run(job.poll(0, 0.01))
    assert [row["n"] for row in first["rows"]] == [0, 1]
    # The answer was lost on the way: the same once more.
    assert asyncio.run(job.poll(0, 0.01))["rows"] == first["rows"]
    job.emit({"n": 2})
    assert [row["n"] for row in asyncio.run(job.poll(2, 0.01))["rows"]] == [2]


def test_a_poll_returns_as_soon_as_there_is_something():
    job = Job({})
    threading.Timer(0.2, job.emit, [{"n": 0}]).start()
    begun = time.monotonic()
    assert asyncio.run(job.poll(0, 10.0))["rows"] == [{"n": 0}]
    assert time.monotonic() - begun < 5


def test_the_end_comes_with_or_after_the_last_entry():
    job = Job({})
    job.emit({"n": 0})
    job.end({"how": "done"})
    said = asyncio.run(job.poll(0, 0.01))
    assert said["rows"] and said["answer"] == {"how": "done"}
    assert asyncio.run(job.poll(1, 0.01))["rows"] == []


def test_nobody_listens():
    job = Job({}, lease_s=0.05)
    job.check()
    time.sleep(0.1)
    with pytest.raises(Interrupted, match="not been heard of"):
        job.check()
    # Once given up it stays so, whoever asks later.
    asyncio.run(job.poll(0, 0.01))
    with pytest.raises(Interrupted):
        job.emit({"n": 0})
