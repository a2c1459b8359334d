import pytest

from llamacpp_tools.sweep.death import abort_text, explain, short_source


@pytest.mark.parametrize(
    ("path", "short"),
    [
        ("/home/someone/trees/abc/src/llama-graph.cpp", "src/llama-graph.cpp"),
        ("/usr/src/llama/src/models/qwen35moe.cpp", "src/models/qwen35moe.cpp"),
        ("/x/ggml/src/ggml-cpu/amx/mmq.cpp", "ggml/src/ggml-cpu/amx/mmq.cpp"),
        ("/x/ggml/trees/ggml/src/ggml.c", "ggml/src/ggml.c"),
        ("../../src/llama.cpp", "src/llama.cpp"),
        ("ggml.c", "ggml.c"),
    ],
)
def test_machine_folders_are_left_out(path, short):
    assert short_source(path) == short


def test_the_first_assert_counts():
    text = (
        "llama_model_loader: loaded\n"
        "/a/src/llama-graph.cpp:10: GGML_ASSERT(a == b) failed\n"
        "/a/ggml/src/ggml.c:99: GGML_ASSERT(later) failed\n"
    )
    assert abort_text(text) == "GGML_ASSERT(a == b) failed at src/llama-graph.cpp:10"


def test_an_abort_without_an_assert():
    assert explain(-6, "/a/ggml/src/ggml.c:99: fatal error\n") == (
        "crashed",
        "fatal error at ggml/src/ggml.c:99",
    )


def test_an_uncaught_exception_is_named():
    stderr = "terminate called after throwing an instance of 'std::runtime_error'\n  what():  no such queue\n"
    assert explain(-6, stderr) == ("crashed", "the worker was ended by SIGABRT (an abort): no such queue")


def test_memory_that_is_only_not_pinned_is_no_reason():
    stderr = "ggml_vulkan: Failed to allocate pinned memory\n/a/src/llama.cpp:9: GGML_ASSERT(x) failed\n"
    assert explain(-6, stderr) == ("crashed", "GGML_ASSERT(x) failed at src/llama.cpp:9")


def test_a_lost_device_is_said():
    stderr = (
        "terminate called after throwing an instance of 'vk::DeviceLostError'\n  what():  ErrorDeviceLost\n"
    )
    status, reason = explain(-6, stderr)
    assert status == "crashed"
    assert reason.startswith("the device was lost: terminate called")


def test_memory_that_ran_out():
    status, reason = explain(-6, "ggml_vulkan: Device memory allocation failed.\nErrorOutOfDeviceMemory\n")
    assert status == "oom"
    assert "ErrorOutOfDeviceMemory" in reason


def test_an_exit_code_comes_with_the_last_line():
    reason = explain(1, "Traceback\nImportError: no module\n\n")[1]
    assert reason == "the worker ended with exit code 1 before it was done: ImportError: no module"


def test_an_unknown_signal_has_its_number():
    assert "signal 63" in explain(-63, "")[1] or "SIGRT" in explain(-63, "")[1]
