import subprocess
from pathlib import Path

import llamacpp_tools
from llamacpp_tools.processor import cpu_info
from llamacpp_tools.results.provenance import box, checkout_state, provenance, with_device
from tests.rpc.conftest import identity_of


def make_checkout(folder, package="llamacpp_tools"):
    (folder / package).mkdir(parents=True)
    (folder / package / "__init__.py").write_text("")
    environment = ["-c", "user.name=a", "-c", "user.email=a@localhost", "-c", "commit.gpgsign=false"]
    for arguments in (["init", "-q"], ["add", "."], [*environment, "commit", "-q", "-m", "x"]):
        subprocess.run(["git", *arguments], cwd=folder, check=True)
    return folder / package


def test_a_clean_and_a_changed_checkout(tmp_path):
    package = make_checkout(tmp_path)
    commit, dirty = checkout_state(package)
    assert len(commit) == 40
    assert dirty is False
    (tmp_path / "new.txt").write_text("x")
    assert checkout_state(package) == (commit, True)


def test_a_stranger_s_repository_is_not_ours(tmp_path):
    assert checkout_state(make_checkout(tmp_path, "other")) == (None, None)


def test_no_repository_at_all(tmp_path):
    assert checkout_state(tmp_path) == (None, None)


def test_the_machine_is_described_without_its_name():
    import platform

    found = provenance({}, Path("/somewhere/m.gguf"))
    assert found.cpu_info == cpu_info() != ""
    assert found.model_filename == "m.gguf"
    assert found.llt_version == llamacpp_tools.__version__
    assert found.build_number is None
    assert "GiB" in box(found)
    assert platform.node() not in box(found)


def test_the_first_worker_that_loaded_names_the_device(make_plan, make_outcomes):
    from dataclasses import replace

    dense, swa, *_ = make_outcomes(make_plan())
    known = provenance({}, Path("m.gguf"), "radv")
    assert with_device(known, replace(dense, loaded=None)).device is None
    found = with_device(known, dense)
    assert (found.device, found.driver, found.backends) == ("CPU", "radv", "CPU")
    other = replace(swa, loaded=replace(swa.loaded, device="Other"))
    assert with_device(found, other).device == "CPU"


def test_servers_are_told_by_what_they_were_built_from_and_not_by_where_they_stand(tmp_path):
    found = provenance({}, tmp_path / "a.gguf", servers={"a:1": identity_of()}).rpc_servers
    assert [(each.address, each.devices, each.tree) for each in found] == [("a:1", ["CPU: a CPU"], "ab" * 20)]
    text = found[0].model_dump_json()
    assert "box" not in text and "1" * 16 not in text and "2" * 16 not in text
    assert provenance({}, tmp_path / "a.gguf").rpc_servers is None
