"""A machine and texts with known costs and chances, measured by nobody: what advice must find again."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from llamacpp_tools.results.schema import Cell, Document, Provenance, Sample, StepCost

N_PREDICT = 4000


@dataclass
class Machine:
    """Milliseconds of a plain token by recipe, and of a step by draft length; each round a little off."""

    token_ms: dict = field(default_factory=lambda: {None: 20.0, 1024: 18.0})
    step_ms: tuple = (20.5, 26.0, 31.0, 36.0, 42.0, 49.0, 57.0)
    noise: float = 0.004
    rounds: int = 5

    def __post_init__(self):
        self.random = np.random.default_rng(7)
        self.drift = 1 + self.noise * self.random.standard_normal(self.rounds)

    def step(self, n_max, window=None):
        return self.step_ms[n_max] * self.token_ms[window] / self.token_ms[None]

    def gain(self, chances, n_max, window=None):
        """The true S(n) of a text."""
        expected = 1 + np.cumprod(chances)[:n_max].sum()
        return expected * self.token_ms[window] / self.step(n_max, window)

    def plain(self, window=None, workload="log", n_depth=4096):
        samples = [
            self._sample(
                number, N_PREDICT, [round(self._ms(self.token_ms[window], number) * 1e6)] * N_PREDICT
            )
            for number in range(self.rounds)
        ]
        return self._cell("swa" if window else "dense", samples, window, workload, n_depth)

    def drafting(self, chances, n_max, window=None, workload="log", n_depth=4096, words=None):
        steps = []
        while sum(accepted + 1 for _, accepted in steps) < N_PREDICT:
            held = self.random.random(n_max) < chances[:n_max]
            steps.append((n_max, int(np.cumprod(held).sum())))
        made = sum(accepted + 1 for _, accepted in steps)
        drafted, accepted = (list(each) for each in zip(*steps, strict=True))
        samples = []
        for number in range(self.rounds):
            took = [round(self._ms(self.step(n_max, window), number) * 1e6)] * len(steps)
            lists = {"step_drafted": drafted, "step_accepted": accepted, "step_draft_ns": [1] * len(steps)}
            samples.append(self._sample(number, made, took, n_max=n_max, **lists))
        cell = self._cell("swa+mtp" if window else "mtp", samples, window, workload, n_depth)
        rate = sum(accepted) / sum(drafted)
        return cell.model_copy(
            update={"n_max": n_max, "p_min": 0.0, "acceptance": rate, "distinct_word_ratio": words}
        )

    def forced(self, window=None, workload="log", n_depth=4096):
        costs = []
        for n_max in range(len(self.step_ms)):
            samples = [self._ms(self.step(n_max, window), number) for number in range(self.rounds)]
            middle = float(np.median(samples))
            costs.append(
                StepCost(
                    n_max=n_max, n_steps=100, step_ms=middle, draft_ms=n_max, verify_ms=middle - n_max,
                    samples_ms=samples,
                )
            )  # fmt: skip
        cell = self._cell("swa+mtp" if window else "mtp", [], window, workload, n_depth)
        return cell.model_copy(update={"forced": True, "n_max": 6, "step_costs": costs, "decode_tps": None})

    def _ms(self, true, number):
        return true * self.drift[number] * (1 + self.noise * self.random.standard_normal())

    def _sample(self, number, n_gen, step_ns, n_max=0, **lists):
        drafted = [sum(d > at for d in lists.get("step_drafted", ())) for at in range(n_max)]
        accepted = [sum(a > at for a in lists.get("step_accepted", ())) for at in range(n_max)]
        return Sample(
            round=number, n_prompt=4096, prefill_ns=10**9, n_gen=n_gen, decode_ns=sum(step_ns), n_steps=len(step_ns),
            step_ns=step_ns, drafted=drafted, accepted=accepted, output_sha256="the same", filled="prefill", **lists,
        )  # fmt: skip

    def _cell(self, mode, samples, window, workload, n_depth):
        speeds = [sample.n_gen / sample.decode_ns * 1e9 for sample in samples]
        return Cell(
            id=f"{mode} {workload} {n_depth} {window} {self.random.random()}", mode=mode, status="ok", n_depth=n_depth,
            workload=workload, window=window, full_layers=[11] if window else None, n_ubatch=512, n_batch=2048,
            type_k="f16", type_v="f16", flash_attn="auto", n_gpu_layers="all", threads="auto", n_threads=2,
            n_predict=N_PREDICT, n_gen=N_PREDICT, decode_tps=float(np.median(speeds)) if speeds else None,
            samples=samples,
        )  # fmt: skip


@pytest.fixture
def machine():
    return Machine()


@pytest.fixture
def document():
    """A document of some cells; what it asked for is of no matter here."""

    def make(*cells, source="measured"):
        return Document(
            status="complete", experiment="planted", date="2026-11-22T00:00:00+00:00", box="a box", backend="cpu",
            model="m.gguf", what="planted", provenance=Provenance(source=source, model_filename="m.gguf"), config={},
            cells=list(cells),
        )  # fmt: skip

    return make
