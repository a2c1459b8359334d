"""Where built and fetched things live: `LLT_HOME`, by default the user's cache folder for llt.

Nothing is ever built inside the checkout, so a checkout can be thrown away, and two checkouts with the
same series share one build.
"""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def llt_home() -> Path:
    """The root of everything llt keeps: `LLT_HOME`, else the user's cache folder for `llt`."""
    named = os.environ.get("LLT_HOME", "").strip()
    return Path(named).expanduser().absolute() if named else platformdirs.user_cache_path("llt")


def sources_dir() -> Path:
    """The bare repository with upstream's objects, and the downloads they came from."""
    return llt_home() / "sources"


def trees_dir() -> Path:
    """Checked-out upstream trees, one folder per variant and version."""
    return llt_home() / "trees"


def builds_dir() -> Path:
    """Finished and half-finished builds, one folder per (tree, options)."""
    return llt_home() / "builds"


def models_dir() -> Path:
    """Models that llt itself writes (synthetic shapes), one file per shape and seed."""
    return llt_home() / "models"


def depth_dir() -> Path:
    """Kept prefills, one file per state (see `sweep.depthstate`)."""
    return llt_home() / "depth"


def sanity_dir() -> Path:
    """The baselines of `llt sanity`, one result file per machine, model and backend."""
    return llt_home() / "sanity"


def shipped(name: str) -> Path:
    """A folder that ships with llt (`patches`, `configs`): in the checkout, else inside the wheel."""
    package = Path(__file__).resolve().parent
    in_checkout = package.parent / name
    return in_checkout if in_checkout.is_dir() else package / "_data" / name
