import json
from pathlib import Path

import pytest

from llamacpp_tools.build.machine import Machine, Ran
from llamacpp_tools.build.options import BACKENDS
from llamacpp_tools.cli import doctor as verb
from llamacpp_tools.errors import MissingTool


def bare_machine() -> Machine:
    return Machine(
        which=lambda program: None,
        run=lambda command: Ran(127, "not there"),
        environ={},
        scripts=Path("/nowhere"),
        os_release={"ID": "debian"},
        platform="linux",
        is_root=False,
    )


def test_a_bare_machine_is_told_what_to_install(home):
    report = verb.examine(bare_machine())
    assert sorted(report["backends"]) == list(BACKENDS)
    cpu = report["backends"]["cpu"]
    assert cpu["buildable"] is False
    assert "sudo apt-get install -y g++ git" in cpu["mend"]
    assert {each["name"] for each in cpu["requirements"] if not each["ok"]} >= {
        "C++17 compiler",
        "cmake",
        "git",
    }


@pytest.mark.parametrize("json_output", [True, False])
def test_without_a_compiler_the_report_is_printed_and_the_exit_code_is_3(
    home, monkeypatch, capsys, json_output
):
    report = verb.examine(bare_machine())
    monkeypatch.setattr(verb, "examine", lambda: report)
    with pytest.raises(MissingTool) as caught:
        verb.doctor(json_output)
    assert caught.value.exit_code == 3
    printed = capsys.readouterr().out
    if json_output:
        assert json.loads(printed) == report
    else:
        assert "sudo apt-get install -y glslc" in printed
        assert "cannot be built" in printed


def test_the_document_of_this_machine(home, llt):
    done = llt("doctor", "--json", env={"LLT_HOME": str(home)})
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["backends"]["cpu"]["buildable"] is True
    names = [each["name"] for each in report["backends"]["vulkan"]["requirements"]]
    assert names[0] == "C++17 compiler"
    assert "SPIRV-Headers" in names
    assert report["kept"] == {"home": str(home), "upstream": False, "trees": [], "builds": []}


def test_the_table_names_every_backend_and_what_is_kept(home, llt):
    done = llt("doctor", env={"LLT_HOME": str(home)})
    assert done.returncode == 0, done.stderr
    for name in BACKENDS:
        assert f"{name}: can" in done.stdout
    assert f"LLT_HOME: {home}" in done.stdout
    assert "not fetched yet" in done.stdout


def test_a_build_that_lost_its_library_is_reported_and_not_hidden(home):
    pointer = home / "builds" / "patched-without-mtp-iswa-cpu.current"
    pointer.parent.mkdir(parents=True)
    pointer.write_text("patched-cpu-0123\n")
    (home / "builds" / "stock-vulkan-rpc.current").write_text("stock-vulkan-rpc-0123\n")
    (home / "trees" / "patched-b9842").mkdir(parents=True)
    kept = verb.examine(bare_machine())["kept"]
    assert kept["trees"] == ["patched-b9842"]
    assert [(each["backend"], each["variant"], each["rpc"]) for each in kept["builds"]] == [
        ("cpu", "patched-without-mtp-iswa", False),
        ("vulkan", "stock", True),
    ]
    assert kept["builds"][0]["library"] is None
    assert "llt build --cpu" in kept["builds"][0]["problem"]
    assert "llt build --vulkan --rpc --variant stock" in kept["builds"][1]["problem"]
