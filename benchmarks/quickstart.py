"""How long `make quickstart` takes: cold, a second time, and a build that has nothing to do.

    python benchmarks/quickstart.py

Cold is a fresh clone of this checkout's HEAD with an empty LLT_HOME and without ccache; what pip and npm keep of
earlier downloads stays. Goals: under 5 minutes cold on 2 cores, under 30 s the second time, about 1 s for the build.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import ROOT, machine, show, write_result

COLD_S, AGAIN_S, NOTHING_S = 300.0, 30.0, 2.0


def timed(words: list[str], folder: Path, env: dict[str, str]) -> float:
    """Seconds of a command that has to work; what it prints is passed on."""
    start = time.perf_counter()
    done = subprocess.run(words, cwd=folder, env=env, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(words)} ended with {done.returncode}")
    return time.perf_counter() - start


def main() -> None:
    facts = machine()
    with tempfile.TemporaryDirectory(prefix="llt-bench-") as name:
        clone = Path(name) / "llt"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        env = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "PYTHONPATH")}
        env |= {"LLT_HOME": str(Path(name) / "home"), "CCACHE_DISABLE": "1"}
        cold = timed(["make", "quickstart"], clone, env)
        again = timed(["make", "quickstart"], clone, env)
        nothing = timed([str(clone / ".venv" / "bin" / "llt"), "build", "--cpu"], clone, env)
    result = {
        "what": "make quickstart in a fresh clone with an empty LLT_HOME, then again, then a build with nothing to do",
        "cold_s": round(cold, 1), "again_s": round(again, 1), "build_again_s": round(nothing, 2),
        "goals_s": {"cold_s": COLD_S, "again_s": AGAIN_S, "build_again_s": NOTHING_S},
        "goal_met": cold < COLD_S and again < AGAIN_S and nothing < NOTHING_S,
        "machine": facts,
    }  # fmt: skip
    path = write_result("quickstart", result)
    rows = [
        ("cold", f"{cold:.0f} s (goal: under {COLD_S:.0f} s)"),
        ("second time", f"{again:.1f} s (goal: under {AGAIN_S:.0f} s)"),
        ("build, nothing to do", f"{nothing:.2f} s (goal: about 1 s)"),
    ]
    show("make quickstart", rows)
    print(f"result: {path.relative_to(ROOT)}")
    sys.exit(0 if result["goal_met"] else 1)


if __name__ == "__main__":
    main()
