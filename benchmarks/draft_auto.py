"""The draft length that steers itself against every fixed one, on real decodes, taken in turns.

Five sweeps: the miniature with ballast that makes its weights stream from memory, as it is, as it is at depth, a
random-weight model of which nothing is ever accepted, and the miniature with ballast in its KV cache as well. Each has
plain decode, fixed lengths and `auto` in turns, for each kind of text and depth, and conversations that change kind
midway.

Goals: auto at least 0.97 of the best fixed length, plain decode among them; above every fixed length where the text
changes; at least 0.98 of plain decode everywhere; the tokens those of plain decode. Writes `draft-auto.json`.

    python benchmarks/draft_auto.py [--rounds 4] [--out FOLDER] [NAME …]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from common import ROOT, machine, show, write_result

from llamacpp_tools.results import document
from llamacpp_tools.results.compare import by_round
from llamacpp_tools.results.schema import Cell
from llamacpp_tools.results.statistics import Paired, paired
from llamacpp_tools.workloads import names
from llamacpp_tools.workloads.cut import turns_of

KINDS = list(names())
CHANGES: list[Any] = [{"turns": ["analysis", "maintenance_log"]}, {"turns": ["maintenance_log", "factual"]}]
_BASE: dict[str, Any] = {
    "build": {"backend": "cpu", "variant": "patched"},
    "context": {"n_ubatch": 512, "type_kv": "f16", "flash_attn": False},
    "draft": {"n_max": [1, 2, 3, 5, "auto"], "limit": 8},
    "modes": ["dense", "mtp"],
    "depths": [512],
    "workloads": KINDS + CHANGES,
    "generate": {"n_predict": 2048},
}
SWEEPS: dict[str, dict[str, Any]] = {
    "weights": {
        "model": {"miniature": {"ballast_weights": "120MB"}},
        "workloads": ["maintenance_log", "analysis", CHANGES[0]],
        "generate": {"n_predict": 1536},
    },
    "miniature": {"model": "miniature"},
    "random": {"model": {"synth": "tiny"}, "workloads": ["analysis"], "depths": [512, 2048]},
    "deep": {
        "model": "miniature",
        "depths": [4096],
        "workloads": ["maintenance_log", "analysis", "factual", CHANGES[0]],
    },
    "weights and KV": {
        "model": {"miniature": {"ballast_weights": "60MB", "ballast_kv": 2048}},
        "depths": [2048],
        "workloads": ["maintenance_log", "analysis", "factual", *CHANGES],
        "generate": {"n_predict": 1024},
    },
}


def main() -> None:
    """Run the sweeps that are asked for and write the figures of all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(SWEEPS)}; all by default")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument(
        "--out", type=Path, default=ROOT / "results" / "miniature", help="where the sweeps' results go"
    )
    asked = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for name in asked.names or SWEEPS:
        rows += _rows(name, _sweep(name, asked.rounds, asked.out))
        result = {
            "what": __doc__.split("\n")[0],
            "rows": rows,
            "summary": _summary(rows),
            "machine": machine(),
        }
        path = write_result("draft-auto", result)
    show(str(path.relative_to(ROOT)), [(row["place"], _words(row)) for row in rows])
    print(json.dumps(result["summary"], indent=2))


def _sweep(name: str, rounds: int, folder: Path) -> list[Cell]:
    slug = "draft-auto-" + name.replace(" ", "-")
    config = folder / f"{slug}.yaml"
    config.write_text(yaml.safe_dump({"name": slug, "rounds": rounds, **_BASE, **SWEEPS[name]}))
    out = folder / f"{slug.replace('-', '_')}.json"
    command = [sys.executable, "-m", "llamacpp_tools", "sweep", str(config), "--out", str(out)]
    command += ["--resume"] if out.exists() else []
    try:
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    finally:
        config.unlink()
    return document.read(out).cells


def _rows(name: str, cells: list[Cell]) -> list[dict[str, Any]]:
    rows = []
    for place in dict.fromkeys((cell.n_depth, cell.workload) for cell in cells):
        here = [cell for cell in cells if (cell.n_depth, cell.workload) == place]
        speeds = {_arm(cell): by_round(cell, "decode_tps") for cell in here if cell.status == "ok"}
        auto = next((cell for cell in here if cell.auto), None)
        row: dict[str, Any] = {
            "place": f"{name}, depth {place[0]}, {place[1]}",
            "changes": len(turns_of(place[1])) > 1,
            "decode_tps": {_arm(cell): cell.decode_tps for cell in here},
            "failed": {_arm(cell): cell.reason for cell in here if cell.status != "ok"},
            "tokens": "those of plain decode"
            if len({tuple(cell.output_tokens or ()) for cell in here}) == 1
            else "differ",
        }
        if auto is not None and auto.status == "ok":
            ratios = {arm: _over(speeds["auto"], other) for arm, other in speeds.items() if arm != "auto"}
            fixed = {arm: ratio for arm, ratio in ratios.items() if arm != "0"}
            best = min(fixed, key=lambda arm: fixed[arm].ratio)
            row |= {
                "best_fixed": best,
                "over_best_fixed": _figures(fixed[best]),
                "over_plain": _figures(ratios["plain"]),
                "over": {arm: round(ratio.ratio, 4) for arm, ratio in ratios.items()},
                "steering": auto.steering.model_dump() if auto.steering else None,
            }
        rows.append(row)
    return rows


def _arm(cell: Cell) -> str:
    return "plain" if cell.n_max is None else "auto" if cell.auto else str(cell.n_max)


def _over(ours: dict[int, float], theirs: dict[int, float]) -> Paired:
    both = sorted(ours.keys() & theirs.keys())
    found = paired([ours[at] for at in both], [theirs[at] for at in both])
    if found is None:
        raise SystemExit("a comparison has no round that both sides measured")
    return found


def _figures(found: Paired) -> dict[str, Any]:
    return {"ratio": found.ratio, "interval": found.interval, "rounds": found.rounds}


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """How many places reach each goal, by the ratio and by its interval, and the lowest ratio."""
    found = {}
    told = [row for row in rows if "over_best_fixed" in row]
    for goal, at_least, key, which in (
        ("of the best fixed length", 0.97, "over_best_fixed", [row for row in told if not row["changes"]]),
        (
            "of the best fixed length on a text that changes",
            1.0,
            "over_best_fixed",
            [r for r in told if r["changes"]],
        ),
        ("of plain decode", 0.98, "over_plain", told),
    ):
        ratios = [row[key]["ratio"] for row in which]
        tops = [(row[key]["interval"] or [0, row[key]["ratio"]])[1] for row in which]
        found[goal] = {
            "goal": at_least,
            "places": len(ratios),
            "reached": sum(ratio >= at_least for ratio in ratios),
            "shown_to_miss": sum(top < at_least for top in tops),
            "lowest": min(ratios, default=None),
        }
    found["other tokens than plain decode"] = {"places": sum(row["tokens"] == "differ" for row in rows)}
    return found


def _words(row: dict[str, Any]) -> str:
    if "over_best_fixed" not in row:
        return "; ".join(f"{arm}: {why}" for arm, why in row["failed"].items())
    best, plain = row["over_best_fixed"]["ratio"], row["over_plain"]["ratio"]
    return f"{best:.3f} of the best fixed ({row['best_fixed']}), {plain:.3f} of plain decode"


if __name__ == "__main__":
    main()
