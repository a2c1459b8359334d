import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llamacpp_tools.errors import BadInput
from llamacpp_tools.sweep.config import BallastConfig, MiniatureModel, SweepConfig, SynthModel
from llamacpp_tools.sweep.configfile import beside, load_config, parse_config

GOOD = """\
name: small
model: ${LLT_TEST_MODEL:-a.gguf}
swa: {window: [128, 256], full_layers: [27, 31]}
modes: [swa+mtp, dense]
depths: [700]
workloads: [maintenance_log, {file: my.txt}]
"""


def write(tmp_path, text):
    path = tmp_path / "sweep.yaml"
    path.write_text(text)
    return path


def test_a_good_file_is_read_with_its_defaults(tmp_path):
    config = load_config(write(tmp_path, GOOD), env={})
    assert config.model == "a.gguf"
    assert config.modes == ("dense", "swa+mtp")
    assert config.swa.window == (128, 256)
    assert config.swa.full_layers == ((27, 31),)
    assert config.draft.n_max == (3,)
    assert config.workloads[1].file == "my.txt"
    assert (config.rounds, config.generate.n_predict, config.build.backend) == (3, 200, "cpu")


@pytest.mark.parametrize(
    ("given_layers", "axis"),
    [([], ((),)), ([3], ((3,),)), ([[3], [3, 7]], ((3,), (3, 7))), ([[]], ((),))],
)
def test_full_layers_is_an_axis_of_lists(raw, given_layers, axis):
    raw["swa"] = {"window": 128, "full_layers": given_layers}
    assert parse_config(raw, "x").swa.full_layers == axis


@pytest.mark.parametrize(
    ("given_servers", "axis"),
    [
        ([], ((),)),
        (["a:1"], (("a:1",),)),
        (["a:1", "b.lan:2"], (("a:1", "b.lan:2"),)),
        ([[], ["a:1"], ["a:1", "b:2"]], ((), ("a:1",), ("a:1", "b:2"))),
    ],
)
def test_servers_are_an_axis_of_lists(raw, given_servers, axis):
    raw["context"] = {"rpc": given_servers}
    config = parse_config(raw, "x")
    assert config.context.rpc == axis
    stored = config.model_dump(mode="json")["context"]["rpc"]
    assert parse_config({**raw, "context": {"rpc": stored}}, "x").context.rpc == axis


@pytest.mark.parametrize(
    ("context", "words"),
    [
        ({"rpc": "a:1"}, "`context.rpc` must be a list, not 'a:1'; write [a:1]"),
        (
            {"rpc": ["a"]},
            "must be HOST:PORT with a name or an IPv4 address and a port from 1 to 65534, not 'a'",
        ),
        ({"rpc": ["[::1]:5"]}, "must be HOST:PORT"),
        ({"rpc": [["a:1"], ["a:1"]]}, "`context.rpc` holds ['a:1'] twice"),
        ({"rpc": ["a:1"], "n_gpu_layers": [0, 4]}, "has n_gpu_layers 0 with rpc"),
    ],
)
def test_servers_that_cannot_be_are_refused(raw, context, words):
    raw["context"] = context
    with pytest.raises(BadInput) as told:
        parse_config(raw, "x")
    assert words in str(told.value)


def test_a_model_may_be_synthetic(raw):
    raw["model"] = {"synth": "tiny", "seed": 4}
    assert parse_config(raw, "x").model == SynthModel(synth="tiny", seed=4)
    raw["model"] = {"synth": "tiny", "dtype": "q4_0", "sizes": {"n_layer": 4}}
    assert parse_config(raw, "x").model == SynthModel(synth="tiny", dtype="q4_0", sizes={"n_layer": 4})


@pytest.mark.parametrize(
    ("asked", "weights"),
    [("400MB", 400_000_000), ("1GiB", 1 << 30), ("1.5 kB", 1500), ("64B", 64), (4096, 4096)],
)
def test_the_miniature_is_asked_for_by_name_or_with_ballast(raw, asked, weights):
    raw["model"] = "miniature"
    assert parse_config(raw, "x").model == MiniatureModel()
    raw["model"] = {"miniature": {"ballast_weights": asked, "ballast_kv": 2048}}
    wanted = BallastConfig(ballast_weights=weights, ballast_kv=2048)
    assert parse_config(raw, "x").model == MiniatureModel(miniature=wanted)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"depth": [1]}, "`depth` is not a known key; did you mean `depths`?"),
        ({"window": 4}, "did you mean `window` under `swa:`?"),
        ({"zzz": 4}, "known here are name, model"),
        ({"context": {"ubatch": 4}}, "`context.ubatch` is not a known key; did you mean `n_ubatch`?"),
        ({"context": {"rounds": 4}}, "`rounds` at the top level"),
        ({"depths": 123}, "`depths` must be a list, not 123; write [123]"),
        ({"depths": []}, "`depths` must not be an empty list"),
        ({"depths": [0]}, "`depths[0]` must be at least 1, not 0"),
        ({"depths": [1, 2.0]}, "`depths[1]` must be a whole number, not 2.0"),
        ({"depths": ["12"]}, "`depths[0]` must be a whole number, not '12'"),
        ({"depths": [True]}, "`depths[0]` must be a whole number, not true"),
        ({"depths": [5, 5]}, "`depths` holds 5 twice"),
        ({"depths": None}, "`depths` must be a list, not nothing"),
        ({"modes": ["dense", "sw"]}, "`modes[1]` must be one of dense, swa, mtp, swa+mtp, not 'sw'"),
        ({"workloads": ["logs"]}, "holds 'logs', which is no workload; there are maintenance_log"),
        ({"workloads": [{"path": "a"}]}, "`workloads[0].path` is not a known key"),
        ({"workloads": [7]}, "`workloads[0]` must be text, or a mapping"),
        ({"model": {"miniature": {"ballast_weight": 5}}}, "did you mean `ballast_weights`?"),
        ({"model": {"miniature": {"ballast_weights": "400 apples"}}}, "must be a size such as 400MB or 1GiB"),
        (
            {"model": {"miniature": {"ballast_weights": -1}}},
            "`model.miniature.ballast_weights` must be at least 0",
        ),
        ({"model": {"miniature": 5}}, "`model.miniature` must be a section of keys, not 5"),
        ({"model": 7}, "`model` must be text, or a mapping"),
        ({"model": {"synth": "tiny", "sed": 1}}, "did you mean `seed`?"),
        ({"model": {"synth": "tiny", "sizes": {"n_layer": "4"}}}, "must be a whole number"),
        ({"model": {"synth": "tiny", "dtype": "q9"}}, "dtype"),
        ({"name": "a/b"}, "`name` names files"),
        ({"name": 5}, "`name` must be text, not 5"),
        ({"rounds": 0}, "`rounds` must be at least 1"),
        ({"rounds": 1001}, "`rounds` must be at most 1000"),
        ({"context": {"type_k": "q4_2"}}, "`context.type_k` must be one of f32"),
        ({"context": {"type_k": ["f16", "q4_2"]}}, "`context.type_k[1]` must be one of"),
        ({"context": {"n_ubatch": "big"}}, "`context.n_ubatch` must be a whole number, not 'big'"),
        ({"context": {"n_ubatch": 512, "n_batch": 256}}, "n_ubatch 512 above n_batch 256"),
        ({"context": {"flash_attn": "maybe"}}, "must be true, false or auto, not 'maybe'"),
        ({"context": {"flash_attn": False, "type_v": "q4_1"}}, "llama.cpp cannot do"),
        ({"context": {"n_gpu_layers": "most"}}, "must be a whole number or all, not 'most'"),
        ({"context": {"threads": 0}}, "must be at least 1"),
        ({"context": []}, "`context` must be a section of keys, not a list"),
        ({"swa": None}, "the mode swa needs a section `swa:`"),
        ({"swa": {"full_layers": [3]}}, "`swa.window` is missing"),
        ({"swa": {"window": 0}}, "`swa.window` must be at least 1"),
        ({"swa": {"window": 9, "full_layers": 7}}, "`swa.full_layers` must be a list, not 7"),
        ({"swa": {"window": 9, "full_layers": [1, -1]}}, "`swa.full_layers[1]` must be at least 0"),
        ({"swa": {"window": 9, "full_layers": [[1], [-1]]}}, "`swa.full_layers[1][0]` must be at least 0"),
        ({"swa": {"window": 9, "full_layers": [[1], 3]}}, "full_layers"),
        ({"swa": {"window": 9, "full_layers": [3, 3]}}, "holds 3 twice"),
        ({"draft": {"n_max": "automatic"}}, "must be a whole number or auto, not 'automatic'"),
        ({"draft": {"n_max": "auto", "p_min": 0.5}}, "p_min 0.5 with n_max auto"),
        ({"draft": {"n_max": "auto", "forced": True}}, "forced, which needs an n_max of 1 or more"),
        ({"draft": {"n_max": "auto", "limit": 0}}, "`draft.limit` must be at least 1"),
        ({"workloads": [{"turns": ["code"]}]}, "one turn"),
        ({"workloads": [{"turns": ["code", "cod"]}]}, "'cod', which is no workload"),
        ({"draft": {"n_max": 65}}, "`draft.n_max` must be at most 64"),
        ({"draft": {"p_min": 1.5}}, "`draft.p_min` must be at most 1"),
        ({"draft": {"p_min": float("nan")}}, "finite"),
        ({"build": {"variant": "stock"}}, "needs `variant: patched`"),
        ({"build": {"variant": "patch"}}, "`build.variant` must be patched or stock, not 'patch'"),
        ({"build": {"backend": "vulcan"}}, "did you mean vulkan?"),
        ({"thermal": {"abort_c": 60, "resume_c": 70}}, "not below abort_c 60"),
        ({"generate": {"n_predict": 0}}, "`generate.n_predict` must be at least 1"),
    ],
)
def test_what_is_wrong_is_one_sentence(raw, change, words):
    with pytest.raises(BadInput) as caught:
        parse_config({**raw, **change}, "my.yaml")
    text = str(caught.value)
    assert words in text
    assert text.startswith("my.yaml: ")
    assert "\n" not in text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: a\nname: b\n", "line 2: the key name stands twice"),
        ("swa: {window: 1, window: 2}\n", "the key window stands twice"),
        ("- a\n- b\n", "holds a list"),
        ("", "holds nothing"),
        ("a: [1\n", "line 2"),
        ("model: [${X}]\n", "in quotes"),
        ("1: a\n", "the key 1 is a number"),
        ("a: !!python/object/apply:os.system [ls]\n", "could not determine a constructor"),
        ("name: 2026-13-45\n", "YAML"),
        ("a: &a [*a, *a]\n", "too large or too deep"),
        ("a: " + "[" * 5000, "nested too deeply"),
        ("a: \x01\n", "YAML"),
        ("name: 2026-06-29\n", "the date 2026-06-29"),
    ],
)
def test_yaml_that_is_no_sweep_file(tmp_path, text, words):
    path = write(tmp_path, text)
    with pytest.raises(BadInput) as caught:
        load_config(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_billion_laughs_is_refused(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(BadInput, match="too large or too deep"):
        load_config(write(tmp_path, "\n".join(lines)))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(BadInput, match="there is no sweep file"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(BadInput, match="is a folder"):
        load_config(tmp_path)
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00name")
    with pytest.raises(BadInput, match="not UTF-8"):
        load_config(tmp_path / "b.yaml")


def test_variables(tmp_path):
    path = write(tmp_path, GOOD.replace(":-a.gguf", ""))
    with pytest.raises(BadInput, match="LLT_TEST_MODEL is not set"):
        load_config(path, env={})
    assert load_config(path, env={"LLT_TEST_MODEL": "/m/b.gguf"}).model == "/m/b.gguf"
    assert load_config(path, env={}, need_model=False).model == "${LLT_TEST_MODEL}"


def test_a_named_model_takes_the_files_place(tmp_path):
    path = write(tmp_path, GOOD.replace(":-a.gguf", ""))
    assert load_config(path, model=tmp_path / "my$model.gguf", env={}).model.endswith("my$model.gguf")


def test_a_dollar_can_be_written_and_an_open_variable_is_refused(tmp_path):
    config = load_config(write(tmp_path, GOOD.replace("my.txt", "a$$b.txt")), env={})
    assert config.workloads[1].file == "a$b.txt"
    with pytest.raises(BadInput, match="begins no"):
        load_config(write(tmp_path, GOOD.replace("my.txt", "'${x'")), env={})


def test_a_file_is_looked_for_beside_the_sweep_file_first(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    assert beside(tmp_path / "sweep.yaml", "a.txt") == tmp_path / "a.txt"
    assert str(beside(tmp_path / "sweep.yaml", "b.txt")) == "b.txt"


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates()
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)
KEYS = st.sampled_from(list(SweepConfig.model_fields))


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.dictionaries(KEYS | st.text(max_size=8), VALUES, max_size=3))
def test_any_mapping_is_a_configuration_or_a_sentence(raw, changes):
    try:
        parse_config({**raw, **changes}, "f.yaml")
    except BadInput as error:
        assert str(error).startswith("f.yaml: ")


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200))
def test_any_bytes_are_a_sentence(tmp_path, data):
    path = tmp_path / "bytes.yaml"
    path.write_bytes(data)
    with pytest.raises(BadInput):
        load_config(path, env={})
