import pytest

from llamacpp_tools.sweep.configfile import parse_config
from llamacpp_tools.sweep.outcome import CellOutcome
from llamacpp_tools.sweep.plan import plan
from llamacpp_tools.sweep.protocol import Loaded, RoundSample

RAW = {
    "name": "small",
    "model": {"synth": "tiny"},
    "swa": {"window": 128, "full_layers": [7]},
    "modes": ["dense", "swa", "mtp", "swa+mtp"],
    "depths": [2048],
    "workloads": ["maintenance_log"],
    "context": {"n_ubatch": 128},
    "generate": {"n_predict": 11},
    "rounds": 3,
}
# Milliseconds a token takes, by mode.
SPEED = {"dense": 10.0, "swa": 8.0, "mtp": 9.0, "swa+mtp": 5.0}


@pytest.fixture
def make_plan():
    """A plan of the small sweep with some keys changed."""

    def make(**changes):
        return plan(parse_config({**RAW, **changes}, "small.yaml"))

    return make


@pytest.fixture
def make_outcomes():
    """Outcomes for a plan as if it had run: known times, each round 1 % slower than the one before."""

    def make(planned):
        return [_outcome(spec) for spec in planned.cells]

    return make


def _outcome(spec):
    rounds = []
    for number in range(spec.rounds):
        factor = 1 + number / 100
        n_gen = spec.n_predict - 1
        step = int(SPEED[spec.mode] * 1e6 * factor)
        accepted = [8, 4, 1] if spec.swa else [6, 2, 0]
        rounds.append(
            RoundSample(
                round=number,
                n_prompt=spec.n_depth,
                prefill_ns=int(spec.n_depth * (5e5 if spec.swa else 1e6) * factor),
                n_gen=n_gen,
                decode_ns=step * n_gen,
                step_ns=[step] * n_gen,
                drafted=[10, 8, 4] if spec.mtp else [],
                accepted=accepted if spec.mtp else [],
                n_steps=n_gen,
                tokens=list(range(spec.n_predict)),
                text=" ".join(f"w{at}" for at in range(spec.n_predict)),
            )
        )
    kv_bytes = 3 << 20 if spec.swa else 12 << 20
    loaded = Loaded(kv_bytes, spec.n_max or 0, spec.n_ctx, "CPU", 2, model_size=43_000_000, backends="CPU")
    return CellOutcome(spec, "ok", None, loaded, tuple(rounds), max_rss_bytes=5 << 20, wall_s=1.5)
