"""How long a matrix takes over 1 to 1,000 boxes, simulated with measured times and the very queue that sweeps use.

    python benchmarks/scale_simulation.py [--seeds N]

The comparisons of the committed results of the miniature, each with the seconds that it took here and with the weight
that `cluster.placement` gives it before anything is measured, are drawn until each box has a night's worth. Simulated
are equal boxes; boxes of which a tenth runs at half speed; and boxes of which about every fourth fails once in the
night, loses all of the comparison that it was at, and comes back. A schedule's length is held against
`placement.lower_bound`, which no schedule can beat, failures or not.
Writes results/benchmarks/scale-simulation.json.
"""

from __future__ import annotations

import argparse
import heapq
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from common import ROOT, machine, show, write_result

from llamacpp_tools.cluster.placement import Queue, Task, lower_bound, weight
from llamacpp_tools.results import document
from llamacpp_tools.results.asked import asked
from llamacpp_tools.sweep.cell import cell_id
from llamacpp_tools.sweep.plan import plan

SOURCES = ("acceptance", "advise_known", "advise_unseen", "ballast_2x2")
BOXES = (1, 3, 10, 30, 100, 300, 1000)
PER_BOX = 24
OTHER_NIGHTS = (6, 12, 48)
SLOW_SHARE, SLOW_SPEED = 0.1, 0.5
# A box fails once in so many mean comparisons of its own, and is away for so many.
BETWEEN_FAILURES, AWAY = 80.0, 3.0
GOAL, GOAL_AT = 1.15, 100


@dataclass(frozen=True)
class Measured:
    """A comparison that was measured: what it took, and what it was thought to weigh."""

    seconds: float
    weight: float


@dataclass
class Night:
    """One simulated sweep."""

    makespan_s: float
    lost_s: float = 0.0
    failures: int = 0
    share_idle: float = 0.0


@dataclass
class Lab:
    """Boxes and how they fare.

    Attributes:
        speeds: of each box, 1 for the one that the times were measured on.
        between_s: mean time between two failures of a box; 0 for never.
        away_s: how long it is away then.
    """

    speeds: Sequence[float]
    between_s: float = 0.0
    away_s: float = 0.0
    random: random.Random = field(default_factory=random.Random)


def measured() -> list[Measured]:
    """Every comparison of the committed sweeps."""
    found = []
    for name in SOURCES:
        result = document.read(ROOT / "results" / "miniature" / f"{name}.json")
        config = asked(result)
        assert config is not None
        took = {cell.id: cell.wall_s or 0.0 for cell in result.cells}
        groups = defaultdict(list)
        for spec in plan(config).cells:
            groups[spec.base_key()].append(spec)
        pairs = [(sum(took[cell_id(spec)] for spec in cells), weight(cells)) for cells in groups.values()]
        # A sweep has one model, so that its weights are of one unit; here sweeps of several are mixed.
        unit = sum(seconds for seconds, _ in pairs) / sum(weighs for _, weighs in pairs)
        found += [Measured(seconds, weighs * unit) for seconds, weighs in pairs]
    return found


def simulate(tasks: Sequence[Measured], lab: Lab, longest_first: bool = True) -> Night:
    """Run the queue until nothing is left; events are boxes that finish, fail or come back."""
    queue = Queue([Task(at, task.weight if longest_first else 0.0) for at, task in enumerate(tasks)])
    names = [f"b{number}" for number in range(len(lab.speeds))]
    present = set(names)
    events = [(0.0, number, "free") for number in range(len(names))]
    idle_from: dict[int, float] = {}
    night, worked = Night(0.0), 0.0
    while events and not queue.empty:
        now, number, what = heapq.heappop(events)
        name = names[number]
        if what == "done":
            queue.done(name)
            night.makespan_s = now
        elif what == "failed":
            queue.give_back(name, begun=True)
            night.failures += 1
            present.discard(name)
            heapq.heappush(events, (now + lab.away_s, number, "free"))
            # What it gave back may be all that is left: those who had nothing to do look again.
            for waiting in list(idle_from):
                heapq.heappush(events, (now, waiting, "free"))
                del idle_from[waiting]
            continue
        present.add(name)
        task = queue.take(name, present)
        if task is None:
            idle_from[number] = now
            continue
        needs = tasks[task.index].seconds / lab.speeds[number]
        fails = lab.random.expovariate(1 / lab.between_s) if lab.between_s else needs + 1
        if fails < needs:
            night.lost_s += fails
            heapq.heappush(events, (now + fails, number, "failed"))
        else:
            worked += needs
            heapq.heappush(events, (now + needs, number, "done"))
    night.share_idle = 1 - (worked + night.lost_s) / (night.makespan_s * len(names))
    return night


def labs(count: int, mean_s: float, seed: int) -> dict[str, Lab]:
    """The kinds of lab that are simulated."""
    slow = max(1, round(SLOW_SHARE * count)) if count > 1 else 0
    mixed = [SLOW_SPEED] * slow + [1.0] * (count - slow)
    failing = {"between_s": BETWEEN_FAILURES * mean_s, "away_s": AWAY * mean_s}
    return {
        "equal": Lab([1.0] * count),
        "slow boxes": Lab(mixed),
        "failures": Lab([1.0] * count, **failing, random=random.Random(seed)),
        "slow boxes and failures": Lab(mixed, **failing, random=random.Random(seed + 1)),
    }


def _shown(row: dict[str, float]) -> str:
    return f"{row['over_bound']:.3f} (worst {row['worst']:.3f})"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--seeds", type=int, default=5)
    seeds = options.parse_args().seeds
    pool = measured()
    times = [task.seconds for task in pool]
    mean_s = statistics.mean(times)
    rows: list[dict[str, Any]] = []
    for count, per_box in [
        *((count, PER_BOX) for count in BOXES),
        *((GOAL_AT, each) for each in OTHER_NIGHTS),
    ]:
        found = defaultdict(list)
        begun = time.perf_counter()
        for seed in range(seeds):
            drawn = random.Random(1000 * count + seed).choices(pool, k=per_box * count)
            for name, lab in labs(count, mean_s, seed).items():
                bound = lower_bound([task.seconds for task in drawn], lab.speeds)
                found[name].append((simulate(drawn, lab), bound))
                if name == "equal":
                    found["equal, as listed"].append((simulate(drawn, lab, longest_first=False), bound))
        for name, nights in found.items():
            ratios = [night.makespan_s / bound for night, bound in nights]
            rows.append(
                {
                    "boxes": count,
                    "per_box": per_box,
                    "lab": name,
                    "over_bound": round(statistics.median(ratios), 4),
                    "worst": round(max(ratios), 4),
                    "idle": round(statistics.median([night.share_idle for night, _ in nights]), 4),
                    "lost": round(
                        statistics.median([n.lost_s / (n.makespan_s * count) for n, _ in nights]), 4
                    ),
                    "failures": statistics.median([night.failures for night, _ in nights]),
                }
            )
        print(f"{count} boxes, {per_box} comparisons each: {time.perf_counter() - begun:.1f} s", flush=True)
    at = {row["lab"]: row for row in rows if (row["boxes"], row["per_box"]) == (GOAL_AT, PER_BOX)}
    worst = max(row["over_bound"] for name, row in at.items() if name != "equal, as listed")
    show(
        f"makespan over the bound, median of {seeds}",
        [(f"{row['boxes']} boxes, {row['per_box']} each, {row['lab']}", _shown(row)) for row in rows],
    )
    path = write_result(
        "scale-simulation",
        {
            "machine": machine(),
            "goal": {"boxes": GOAL_AT, "over_bound": GOAL, "found": worst, "met": worst <= GOAL},
            "times": {
                "from": [f"results/miniature/{name}.json" for name in SOURCES],
                "comparisons": len(times),
                "seconds_mean": round(mean_s, 2),
                "seconds_min": round(min(times), 2),
                "seconds_max": round(max(times), 2),
            },
            "per_box": PER_BOX,
            "seeds": seeds,
            "slow": {"share": SLOW_SHARE, "speed": SLOW_SPEED},
            "failures": {"between_mean_comparisons": BETWEEN_FAILURES, "away_mean_comparisons": AWAY},
            "rows": rows,
        },
    )  # fmt: skip
    print(path)


if __name__ == "__main__":
    main()
