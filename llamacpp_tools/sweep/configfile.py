"""Reads a sweep file: YAML, variables, typed models; whatever is wrong is one sentence that names it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from llamacpp_tools.errors import BadInput
from llamacpp_tools.sweep.config import FileWorkload, SweepConfig
from llamacpp_tools.sweep.problems import sentence
from llamacpp_tools.sweep.yamlfile import expand, load_mapping


def load_config(
    path: Path,
    model: Path | None = None,
    env: Mapping[str, str] | None = None,
    need_model: bool = True,
) -> SweepConfig:
    """The sweep file at `path`, its relative paths resolved by `beside`.

    Args:
        path: the YAML file.
        model: takes the place of the file's `model`, which then need not be there or resolvable.
        env: variables for `${VAR}`; the process's own by default.
        need_model: False leaves `${VAR}` in `model` as it stands where the variable is not set.

    Raises:
        BadInput: the file cannot be read, or something in it is wrong.
    """
    raw = load_mapping(path)
    if model is not None:
        raw["model"] = str(model)
    ready: dict[str, Any] = {}
    for key, value in raw.items():
        try:
            named = key == "model" and model is not None
            ready[key] = value if named else expand(value, f"{path}: {key}", env)
        except BadInput:
            if key != "model" or need_model:
                raise
            ready[key] = value
    config = parse_config(ready, str(path))
    return _with_paths(config, path, own_model=model is None)


def parse_config(raw: Mapping[str, Any], source: str) -> SweepConfig:
    """The mapping `raw` as a configuration; `source` is what an error names.

    Raises:
        BadInput: an unknown key, a missing one, or a value that cannot be.
    """
    try:
        return SweepConfig.model_validate(dict(raw))
    except ValidationError as error:
        raise BadInput(f"{source}: {sentence(error, raw)}") from None


def _with_paths(config: SweepConfig, source: Path, own_model: bool) -> SweepConfig:
    changes: dict[str, Any] = {}
    if own_model and isinstance(config.model, str):
        changes["model"] = str(beside(source, config.model))
    changes["workloads"] = tuple(
        FileWorkload(file=str(beside(source, item.file))) if isinstance(item, FileWorkload) else item
        for item in config.workloads
    )
    return config.model_copy(update=changes)


def beside(source: Path, name: str) -> Path:
    """The file `name` of the sweep file `source`: beside it if it is there, else in the current folder."""
    given = Path(name).expanduser()
    near = source.parent / given
    return near if not given.is_absolute() and near.exists() else given
