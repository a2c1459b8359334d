"""Three boxes in network namespaces of their own, killed and cut off in the midst of a 24-cell sweep.

    python benchmarks/cluster_kills.py [--loopback]

A hub (scheduler, sweep) and three boxes, each in a network namespace with an address of its own, over TLS; on loopback
without one where namespaces cannot be had. The sweep runs on one machine first. Then over the boxes: kill -9 one
worker, then the scheduler; go on with --resume; cut one box's network. At the end: the same cells and the same tokens
as on one machine, no round lost that was in the journal before a kill, none twice, each row names one box.
Needs root for the namespaces; everything it makes it removes. Writes results/soak/cluster.txt.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from common import ROOT

from llamacpp_tools import home
from llamacpp_tools.cluster import certs
from llamacpp_tools.files import write_text_atomic
from llamacpp_tools.results import document
from llamacpp_tools.results.schema import Document
from llamacpp_tools.sweep.journal import journal_path

BOXES = ("box1", "box2", "box3")
PORT = 8786
CONFIG = """
name: boxes
model: miniature
context: {n_ubatch: 64, threads: 1, flash_attn: false}
swa: {window: 64, full_layers: [11]}
draft: {n_max: 3}
modes: [dense, swa, mtp, swa+mtp]
depths: [192, 256, 320]
workloads: [maintenance_log, code]
generate: {n_predict: 24}
rounds: 3
"""
LLT = [sys.executable, "-m", "llamacpp_tools"]


class Lab:
    """The hub and the boxes; on loopback all are one."""

    def __init__(self, folder: Path, loopback: bool) -> None:
        self.folder = folder
        self.loopback = loopback
        self.address = f"tcp://127.0.0.1:{PORT}" if loopback else f"tls://10.77.0.1:{PORT}"
        self.certs = [] if loopback else ["--certs", str(certs.make(folder / "certs").folder)]
        self.running: list[subprocess.Popen[str]] = []

    def start(self, place: str, *words: str, log: str) -> subprocess.Popen[str]:
        """Start llt in a namespace, in a process group of its own."""
        inside = [] if self.loopback else ["ip", "netns", "exec", f"llt-{place}"]
        with (self.folder / log).open("a") as file:
            env = os.environ | {"COLUMNS": "160", "LLT_HOME": str(self.home(place))}
            process = subprocess.Popen(
                [*inside, *LLT, *words], cwd=ROOT, env=env,
                stdout=file, stderr=file, start_new_session=True, text=True,
            )  # fmt: skip
        self.running.append(process)
        return process

    def home(self, place: str) -> Path:
        """A home of its own for each box, with the builds and models of this machine and prefills of its own."""
        own = self.folder / f"home-{place}"
        if not own.is_dir():
            own.mkdir()
            for name in ("builds", "models"):
                (own / name).symlink_to(home.llt_home() / name)
        return own

    def scheduler(self) -> subprocess.Popen[str]:
        host = self.address.split("://")[1].split(":")[0]
        words = ("cluster", "scheduler", "--host", host, "--port", str(PORT))
        return self.start("hub", *words, *self.certs, log="scheduler.log")

    def worker(self, name: str) -> subprocess.Popen[str]:
        return self.start(name, "worker", self.address, "--name", name, *self.certs, log=f"{name}.log")

    def sweep(self, config: Path, out: Path, *words: str) -> subprocess.Popen[str]:
        where = ("--cluster", self.address, *self.certs, "--wait", "45")
        return self.start("hub", "sweep", str(config), "--out", str(out), *where, *words, log="sweep.log")

    def network(self, name: str, state: str) -> None:
        """Cut or mend a box's line."""
        subprocess.run(["ip", "-n", "llt-hub", "link", "set", f"v-{name}", state], check=True)

    def end(self) -> None:
        for process in self.running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def namespaces() -> Iterator[None]:
    """The hub with a bridge, and each box with a line to it."""

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    names = [f"llt-{name}" for name in ("hub", *BOXES)]
    with ExitStack() as undo:
        for name in names:
            ip("netns", "add", name)
            undo.callback(subprocess.run, ["ip", "netns", "del", name], check=False)
            ip("-n", name, "link", "set", "lo", "up")
        ip("-n", "llt-hub", "link", "add", "br0", "type", "bridge")
        ip("-n", "llt-hub", "addr", "add", "10.77.0.1/24", "dev", "br0")
        ip("-n", "llt-hub", "link", "set", "br0", "up")
        for number, name in enumerate(BOXES, 11):
            ip(
                "-n",
                "llt-hub",
                "link",
                "add",
                f"v-{name}",
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "netns",
                f"llt-{name}",
            )
            ip("-n", "llt-hub", "link", "set", f"v-{name}", "master", "br0", "up")
            ip("-n", f"llt-{name}", "addr", "add", f"10.77.0.{number}/24", "dev", "eth0")
            ip("-n", f"llt-{name}", "link", "set", "eth0", "up")
        yield


def entries(out: Path) -> list[dict[str, Any]]:
    path = journal_path(out)
    whole = (
        [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
        if path.exists()
        else []
    )
    return [json.loads(line) for line in whole]


def rounds(out: Path) -> list[tuple[str, int]]:
    return [(row["key"], row["sample"]["round"]) for row in entries(out) if row["entry"] == "round"]


def until(what: str, found: Callable[[], bool], within_s: float = 240) -> None:
    end = time.monotonic() + within_s
    while not found():
        if time.monotonic() > end:
            raise SystemExit(f"waited {within_s:.0f} s in vain until {what}")
        time.sleep(0.1)


def check(
    lab: Lab, local: Document, over: Document, out: Path, kept: list[list[tuple[str, int]]]
) -> list[str]:
    """What has to hold; raises where it does not."""
    wanted = {cell.id: cell for cell in local.cells}
    found = {cell.id: cell for cell in over.cells}
    assert over.status == "complete" and len(found) == 24 and wanted.keys() == found.keys()
    assert all(cell.status == "ok" for cell in over.cells), [(c.id, c.reason) for c in over.cells if c.reason]
    assert all(found[name].output_tokens == cell.output_tokens for name, cell in wanted.items())
    assert all(sorted(s.round for s in cell.samples) == [0, 1, 2] for cell in over.cells)
    assert all(cell.box in BOXES for cell in over.cells)
    together: dict[tuple[int, str], set[str | None]] = {}
    for cell in over.cells:
        together.setdefault((cell.n_depth, cell.workload), set()).add(cell.box)
    assert all(len(names) == 1 for names in together.values()), together
    journal = rounds(out)
    assert max(Counter(journal).values()) == 1, "a round is in the journal twice"
    for before in kept:
        assert journal[: len(before)] == before, "a round that was in the journal is gone"
    shares = Counter(str(cell.box) for cell in over.cells)
    spare = len(journal) - 3 * len(over.cells)
    return [
        "the same 24 cells as on one machine, all ok, and the same tokens in each",
        "each row names one box, each comparison lies on one: "
        + ", ".join(f"{n} {c}" for n, c in sorted(shares.items())),
        f"{len(journal)} rounds in the journal, none twice, none lost of "
        + " and ".join(str(len(before)) for before in kept)
        + f" that were there at the kills; {spare} of them on a box that was lost, measured again whole on another",
    ]


def run(lab: Lab, config: Path, folder: Path, say: Callable[[str], None]) -> list[str]:
    alone, out = folder / "alone.json", folder / "over.json"
    done = subprocess.run(
        [*LLT, "sweep", str(config), "--out", str(alone)], cwd=ROOT, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    say(f"on one machine: {len(document.read(alone).cells)} cells")
    scheduler = lab.scheduler()
    until("the scheduler listens", lambda: "listens at" in (folder / "scheduler.log").read_text(), 30)
    workers = {name: lab.worker(name) for name in BOXES}
    logs = [folder / f"{name}.log" for name in BOXES]
    until("three boxes have joined", lambda: all("has joined" in log.read_text() for log in logs), 60)
    sweep, kept = lab.sweep(config, out), []
    until(
        "three boxes have joined and rounds come", lambda: len(rounds(out)) >= 6 and joined(out) == set(BOXES)
    )
    kept.append(rounds(out))
    os.killpg(workers["box2"].pid, signal.SIGKILL)
    say(f"kill -9 box2's worker at {len(kept[-1])} rounds")
    until("the sweep has gone on", lambda: len(rounds(out)) >= len(kept[0]) + 4)
    workers["box2"] = lab.worker("box2")
    until("it has gone on further", lambda: len(rounds(out)) >= len(kept[0]) + 10)
    kept.append(rounds(out))
    os.killpg(scheduler.pid, signal.SIGKILL)
    say(f"kill -9 the scheduler at {len(kept[-1])} rounds")
    code = sweep.wait(timeout=120)
    assert code == 1, code
    last = (folder / "sweep.log").read_text().splitlines()[-1]
    say(f"the sweep ended with {code}: {last.replace(str(folder), 'FOLDER')}")
    scheduler = lab.scheduler()
    before = len(rounds(out))
    sweep = lab.sweep(config, out, "--resume")
    until("boxes have come back and rounds come", lambda: len(rounds(out)) >= before + 3)
    if not lab.loopback:
        kept.append(rounds(out))
        lab.network("box3", "down")
        say(f"box3's network is cut at {len(kept[-1])} rounds")
        time.sleep(8)
    code = sweep.wait(timeout=300)
    if not lab.loopback:
        lab.network("box3", "up")
    assert code == 0, (folder / "sweep.log").read_text()
    say("the resumed sweep ended with 0")
    return check(lab, document.read(alone), document.read(out), out, kept)


def joined(out: Path) -> set[str]:
    return {row["box"] for row in entries(out) if row["entry"] == "box"}


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--loopback", action="store_true", help="one network for all, without TLS")
    asked.add_argument("--keep", type=Path, help="leave logs and results in this folder")
    options = asked.parse_args()
    # Whatever ends it, the namespaces go.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    told: list[str] = []
    begun = time.monotonic()

    def say(text: str) -> None:
        told.append(f"{time.monotonic() - begun:6.1f} s  {text}")
        print(told[-1], flush=True)

    with ExitStack() as undo:
        folder = options.keep or Path(undo.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        if not options.loopback:
            undo.enter_context(namespaces())
        config = folder / "boxes.yaml"
        config.write_text(CONFIG)
        lab = Lab(folder, options.loopback)
        undo.callback(lab.end)
        say(
            "three boxes "
            + ("on loopback" if options.loopback else "in network namespaces of their own, over TLS")
        )
        proved = run(lab, config, folder, say)
    head = "Boxes killed and cut off in the midst of a sweep (benchmarks/cluster_kills.py)"
    text = "\n".join([head, "", *told, "", *proved]) + "\n"
    print("\n".join(proved))
    write_text_atomic(ROOT / "results" / "soak" / "cluster.txt", text)


if __name__ == "__main__":
    main()
