"""A build folder that was begun with programs that are gone."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

from llamacpp_tools.build.cmake import compile_targets, configure
from llamacpp_tools.build.toolchain import Toolchain, require

OUTER = """cmake_minimum_required(VERSION 3.28)
project(outer C)
include(ExternalProject)
ExternalProject_Add(
    inner SOURCE_DIR ${CMAKE_CURRENT_SOURCE_DIR}/inner INSTALL_COMMAND ""
    BUILD_COMMAND ${CMAKE_COMMAND} --build <BINARY_DIR> BUILD_ALWAYS TRUE)
"""
INNER = """cmake_minimum_required(VERSION 3.28)
project(inner C)
add_executable(inner main.c)
"""


def with_ninja(tools: Toolchain, place: Path) -> Toolchain:
    """The same programs, but a ninja of another place, as in another virtual environment."""
    place.mkdir()
    ninja = place / "ninja"
    ninja.write_text(f'#!/bin/sh\nexec "{tools.ninja}" "$@"\n', encoding="utf-8")
    ninja.chmod(0o755)
    arguments = [each for each in tools.cmake_args if "CMAKE_MAKE_PROGRAM" not in each]
    env = tools.env | {"PATH": f"{place}:{tools.env['PATH']}"}
    return dataclasses.replace(tools, ninja=str(ninja), cmake_args=arguments, env=env)


def test_an_external_project_is_made_again_when_the_ninja_that_configured_it_is_gone(tmp_path: Path) -> None:
    source, folder = tmp_path / "source", tmp_path / "out"
    (source / "inner").mkdir(parents=True)
    (source / "CMakeLists.txt").write_text(OUTER, encoding="utf-8")
    (source / "inner" / "CMakeLists.txt").write_text(INNER, encoding="utf-8")
    (source / "inner" / "main.c").write_text("int main(void) { return 0; }", encoding="utf-8")
    tools = require("cpu")
    for place in ("first", "second"):
        here = with_ninja(tools, tmp_path / place)
        configure(here, source, tmp_path, folder, [])
        compile_targets(here, folder, ["inner"], lambda done, total, what: None)
        made = folder / "inner-prefix" / "src" / "inner-build"
        assert (made / "inner").exists()
        assert here.ninja in (made / "CMakeCache.txt").read_text(encoding="utf-8")
        kept = made / "kept"
        kept.touch()
        configure(here, source, tmp_path, folder, [])
        assert kept.exists(), "the same ninja leaves it as it is"
        shutil.rmtree(tmp_path / place)
