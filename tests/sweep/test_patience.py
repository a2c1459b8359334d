import pytest

from llamacpp_tools.sweep.patience import Patience
from llamacpp_tools.sweep.plan import plan
from llamacpp_tools.sweep.protocol import Loaded, Progress, RoundSample


@pytest.fixture
def patience(raw):
    from llamacpp_tools.sweep.configfile import parse_config

    spec = plan(parse_config({**raw, "depths": [8192]}, "small.yaml")).cells[0]
    return Patience(spec, model_bytes=0, floor_s=1.0, factor=10.0, _heard=0.0)


def sample():
    return RoundSample(0, 1, 1, 0, 0, [], [], [], 0, [1], "a")


def test_nothing_is_known_while_it_loads_and_a_large_file_may_take_longer(patience):
    assert patience.limit_s == 10.0
    patience.model_bytes = 20 * 10**9
    assert patience.limit_s == 1010.0


def test_a_warm_up_foretells_the_first_chunk_of_a_prompt(patience):
    patience.take(Loaded(1, 0, 1, "CPU", 1), now=1.0)
    patience.wait(now=2.0)
    patience.take(Progress("warmup", 0, 0, 1), now=2.0)
    patience.take(Progress("prefill", 0, 0, 1), now=2.5)
    # 64 tokens took half a second, so a chunk of 2,048 may take 32 times that, and ten times more.
    assert patience.limit_s == pytest.approx(10 * 0.5 * 2048 / 64)


def test_the_longest_silence_of_a_phase_counts_in_that_phase(patience):
    patience.take(Progress("decode", 0, 0, 1), now=0.0)
    assert patience.limit_s == 1.0
    patience.take(Progress("decode", 0, 1, 1), now=3.0)
    patience.take(Progress("decode", 0, 2, 1), now=3.1)
    assert patience.limit_s == 30.0
    assert patience.silent_s(now=5.1) == pytest.approx(2.0)
    assert patience.reason() == (
        "no word from the worker for 30 s during decode, where 3.0 s was the longest silence before"
    )
