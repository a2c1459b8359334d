"""The controller in Python and the one in C++ on made-up texts: `python -m tests.engine.both_controls MANIFEST`.

Prints one JSON document: which class the build gives, where the two first differ, and the reasons that were seen.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path

from llamacpp_tools.build.manifest import load
from llamacpp_tools.engine.control import Chooser, Control, Settings
from llamacpp_tools.engine.native_control import control_of
from llamacpp_tools.ffi.library import open_library

SEEDS, STEPS, ANEW = 40, 1500, 900
Choice = tuple[int, int, int]


def played(control: Chooser, seed: int, limit: int) -> Iterator[Choice]:
    """What the controller chooses in each step of a text of its own making, why, and how much that catches up with."""
    rng = random.Random(seed)
    plain, row, draft = 5e6, rng.uniform(0.05, 0.9) * 5e6, rng.uniform(0.02, 0.4) * 5e6
    cliff = rng.choice([2, 4, limit + 1])
    catching_up, waiting = rng.choice([0.0, 0.005, 0.02, 0.05]) * plain, 0
    alpha = rng.choice([0.05, rng.random()])
    for number in range(STEPS):
        if number == ANEW:
            control.begin()
        if rng.random() < 0.01:
            alpha = rng.random()
        length = control.choose()
        yield length, int(control.why), control.catch_up
        drafted = length if rng.random() < 0.98 else rng.randint(0, length)
        accepted = 0
        while accepted < drafted and rng.random() < alpha:
            accepted += 1
        noise = rng.lognormvariate(0, 0.05) * (20 if rng.random() < 0.01 else 1)
        verify = int((plain + row * drafted + plain * (drafted >= cliff)) * noise)
        spent = int(draft * drafted * noise) if drafted else int(plain / 3) * (rng.random() < 0.01)
        spent += int(catching_up * min(waiting, control.catch_up)) if drafted else 0
        waiting = 0 if drafted else waiting + 1
        control.told(drafted, accepted, spent, verify)


def main() -> None:
    """Play every seed with both."""
    library = open_library(load(Path(sys.argv[1])))
    differ, reasons, caught_up = [], set(), set()
    for seed in range(SEEDS):
        limit, gaps = 1 + seed % 7, seed % 3 > 0
        in_python = Control(limit, Settings(gaps=gaps))
        pairs = zip(
            played(in_python, seed, limit), played(control_of(library, limit, gaps), seed, limit), strict=True
        )
        for step, (ours, theirs) in enumerate(pairs):
            reasons.add(ours[1])
            caught_up.add(ours[2])
            if ours != theirs:
                differ.append({"seed": seed, "step": step, "python": ours, "native": theirs})
                break
    found = {
        "kind": type(control_of(library, 1, True)).__name__,
        "differ": differ,
        "reasons": sorted(reasons),
    }
    found["caught_up"] = [min(caught_up), len(caught_up)]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
