import pytest

from llamacpp_tools.results.cells import row
from llamacpp_tools.results.record import resolved
from llamacpp_tools.results.schema import Document, Provenance
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


@pytest.fixture
def make_document(make_plan, make_outcomes):
    """A measured document of the small sweep; `change` is given its cells, the rest changes the sweep file."""

    def make(change=None, provenance=None, **changes):
        planned = make_plan(**changes)
        cells = [row(outcome) for outcome in make_outcomes(planned)]
        known = {"source": "measured", "checkout_dirty": False, "cpu_count": 2, "load_average": 0.1}
        return Document(
            status="complete",
            experiment=planned.config.name,
            date="2026-11-21T10:30:05+00:00",
            box="a box",
            backend="cpu",
            model="m.gguf",
            what="a small sweep",
            provenance=Provenance(**{**known, **(provenance or {})}),
            config=resolved(planned.config),
            cells=change(cells) if change else cells,
        )

    return make


@pytest.fixture
def at_speed():
    """Changes a cell to decode, or prefill, at the given tokens per second, one for each round."""

    def change(cell, *speeds, metric="decode"):
        tokens = "n_gen" if metric == "decode" else "n_prompt"
        pairs = zip(cell.samples, speeds, strict=False)
        samples = [
            item.model_copy(update={f"{metric}_ns": round(getattr(item, tokens) / speed * 1e9)})
            for item, speed in pairs
        ]
        middle = sorted(speeds)[len(speeds) // 2]
        return cell.model_copy(update={"samples": samples, f"{metric}_tps": middle, "rounds": len(samples)})

    return change


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
