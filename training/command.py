"""The command line: `python -m training [train|export|validate|parity|sample|reference] --out FOLDER`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from llamacpp_tools.errors import LltError
from llamacpp_tools.files import write_text_atomic
from training.corpus import build_corpus
from training.export import export
from training.shape import MINIATURE
from training.tokenizer import load_tokenizer
from training.trainer import Settings, load_model, start, train
from training.validate import report

VERBS = ("train", "export", "validate", "parity", "sample", "reference")
DTYPES = ("f32", "f16", "q8_0")


def main(arguments: Sequence[str]) -> int:
    """Run one verb; `train` where none is named. Returns the exit code of the contract."""
    given = list(arguments)
    if not given or given[0].startswith("-"):
        given.insert(0, "train")
    options = _parser().parse_args(given)
    try:
        return _RUN[options.verb](options)
    except LltError as error:
        print(f"training: {error}", file=sys.stderr)
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("verb", choices=VERBS)
    parser.add_argument("--out", type=Path, default=Path("training-run"), help="folder of the run")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    parser.add_argument("--tokens", type=int, default=Settings.tokens, help="length of the run")
    parser.add_argument("--minutes", type=float, default=0.0, help="length on the clock instead of in tokens")
    parser.add_argument("--seed", type=int, default=Settings.seed)
    parser.add_argument("--rate", type=float, default=Settings.rate, help="peak learning rate")
    parser.add_argument("--workers", type=int, default=Settings.workers, help="processes of one thread")
    parser.add_argument("--n-tokens", type=int, default=8192, help="length of validation texts")
    parser.add_argument("--n-rows", type=int, default=2, help="validation texts of each kind")
    parser.add_argument("--positions", type=int, default=4000, help="positions that parity compares")
    parser.add_argument("--model", type=Path, help="GGUF file for parity and sample, else that of --out")
    return parser


def _train(options: argparse.Namespace) -> int:
    settings = Settings(options.seed, options.tokens, options.minutes, options.rate, workers=options.workers)
    run = start(options.out, MINIATURE, settings, options.resume)
    n_weights = sum(weight.numel() for weight in run.model.parameters())
    _say(f"{n_weights} weights, {run.corpus.tokenizer.n_vocab} tokens, {settings}")
    complete = train(run, _say)
    _say(f"{'complete' if complete else 'stopped'} at step {run.state.step}, {run.state.tokens} tokens")
    if complete:
        _export(options)
        _validate(options)
    return 0 if complete else 130


def _export(options: argparse.Namespace) -> int:
    model, tokenizer = load_model(options.out, MINIATURE), load_tokenizer(options.out / "tokenizer.json")
    for dtype in DTYPES:
        made = export(model, tokenizer, options.out / f"miniature-{dtype}.gguf", dtype)
        _say(f"{made.path}: {made.n_bytes} bytes, sha256 {made.sha256}")
    return 0


def _validate(options: argparse.Namespace) -> int:
    model = load_model(options.out, MINIATURE)
    corpus = build_corpus(load_tokenizer(options.out / "tokenizer.json"), options.seed)
    began = time.monotonic()
    found = report(model, corpus, options.n_tokens, options.n_rows)
    for kind, one in found.items():
        _say(f"{kind}: {one}")
    kept = {
        "n_tokens": options.n_tokens,
        "n_rows": options.n_rows,
        "seconds": round(time.monotonic() - began, 1),
        "kinds": {kind: asdict(one) for kind, one in found.items()},
    }
    write_text_atomic(options.out / "validation.json", json.dumps(kept, indent=1) + "\n")
    return 0


def _parity(options: argparse.Namespace) -> int:
    from training.parity import compare

    path = options.model or options.out / "miniature-f32.gguf"
    tokenizer = load_tokenizer(options.out / "tokenizer.json")
    found = compare(load_model(options.out, MINIATURE), tokenizer, path, options.positions)
    for one in found:
        _say(str(one))
    text = json.dumps([asdict(one) for one in found], indent=1)
    write_text_atomic(options.out / f"parity-{path.stem}.json", text + "\n")
    return 0


def _sample(options: argparse.Namespace) -> int:
    from training.sample import sample

    path = options.model or options.out / "miniature-q8_0.gguf"
    tokenizer = load_tokenizer(options.out / "tokenizer.json")
    for one in sample(path, tokenizer):
        _say(one.told())
    return 0


def _reference(options: argparse.Namespace) -> int:
    from training.reference import write_reference

    shipped, path = (
        options.model or options.out / "miniature-q8_0.gguf",
        options.out / "miniature_reference.npz",
    )
    tokenizer = load_tokenizer(options.out / "tokenizer.json")
    count = write_reference(load_model(options.out, MINIATURE), tokenizer, shipped, path)
    _say(f"{path}: {count} rows of logits, {path.stat().st_size} bytes")
    return 0


_RUN: dict[str, Callable[[argparse.Namespace], int]] = {
    "train": _train,
    "export": _export,
    "validate": _validate,
    "parity": _parity,
    "sample": _sample,
    "reference": _reference,
}


def _say(text: str) -> None:
    """A line with the time of day, at once, so that a log file can be followed."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)
