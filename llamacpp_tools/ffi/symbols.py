"""All that our Python takes from the library by name; a test keeps both lists equal to what the code says."""

from __future__ import annotations

from typing import Any

from llamacpp_tools.errors import CheckFailed

FUNCTIONS = (
    "ggml_backend_dev_count",
    "ggml_backend_dev_description",
    "ggml_backend_dev_get",
    "ggml_backend_dev_memory",
    "ggml_backend_dev_name",
    "ggml_backend_dev_type",
    "ggml_backend_reg_by_name",
    "ggml_backend_reg_count",
    "ggml_backend_reg_dev_count",
    "ggml_backend_reg_dev_get",
    "ggml_backend_reg_get",
    "ggml_backend_reg_get_proc_address",
    "ggml_backend_reg_name",
    "ggml_type_name",
    "llama_backend_init",
    "llama_batch_free",
    "llama_batch_init",
    "llama_context_default_params",
    "llama_decode",
    "llama_detokenize",
    "llama_free",
    "llama_get_logits_ith",
    "llama_get_memory",
    "llama_init_from_model",
    "llama_log_set",
    "llama_max_devices",
    "llama_memory_clear",
    "llama_model_default_params",
    "llama_model_desc",
    "llama_model_free",
    "llama_model_get_vocab",
    "llama_model_load_from_file",
    "llama_model_n_embd",
    "llama_model_n_params",
    "llama_model_rope_type",
    "llama_model_size",
    "llama_n_batch",
    "llama_n_ctx",
    "llama_n_rs_seq",
    "llama_sampler_chain_add",
    "llama_sampler_chain_default_params",
    "llama_sampler_chain_init",
    "llama_sampler_free",
    "llama_sampler_init_dist",
    "llama_sampler_init_logit_bias",
    "llama_sampler_init_min_p",
    "llama_sampler_init_temp",
    "llama_sampler_init_top_k",
    "llama_sampler_init_top_p",
    "llama_state_get_data",
    "llama_state_get_size",
    "llama_state_set_data",
    "llama_token_to_piece",
    "llama_tokenize",
    "llama_vocab_is_eog",
    "llama_vocab_n_tokens",
    "llt_auto_begin",
    "llt_auto_catch_up",
    "llt_auto_choose",
    "llt_auto_free",
    "llt_auto_new",
    "llt_auto_own_ns",
    "llt_auto_told",
    "llt_auto_why",
    "llt_context_bytes",
    "llt_heed_interrupt",
    "llt_mtp_bisect",
    "llt_mtp_carried",
    "llt_mtp_catch_up",
    "llt_mtp_free",
    "llt_mtp_new",
    "llt_mtp_next",
    "llt_mtp_prefill",
    "llt_mtp_reset",
    "llt_mtp_sample",
    "llt_mtp_step",
    "llt_mtp_watch",
    "llt_plain_free",
    "llt_plain_new",
    "llt_plain_next",
    "llt_plain_prefill",
    "llt_plain_sample",
    "llt_plain_step",
    "llt_plain_tied",
    "llt_tensor_count",
    "llt_tensor_device",
    "llt_tensor_name",
    "llt_unwatch_interrupt",
    "llt_watch_interrupt",
)

CONSTANTS = (
    "GGML_BACKEND_DEVICE_TYPE_CPU",
    "GGML_BACKEND_DEVICE_TYPE_GPU",
    "GGML_BACKEND_DEVICE_TYPE_IGPU",
    "GGML_LOG_LEVEL_CONT",
    "GGML_LOG_LEVEL_DEBUG",
    "GGML_LOG_LEVEL_ERROR",
    "GGML_LOG_LEVEL_INFO",
    "GGML_LOG_LEVEL_WARN",
    "GGML_TYPE_COUNT",
    "LLAMA_CONTEXT_TYPE_MTP",
    "LLAMA_FLASH_ATTN_TYPE_AUTO",
    "LLAMA_FLASH_ATTN_TYPE_DISABLED",
    "LLAMA_FLASH_ATTN_TYPE_ENABLED",
    "LLAMA_KV_OVERRIDE_TYPE_INT",
    "LLAMA_KV_OVERRIDE_TYPE_STR",
    "LLAMA_ROPE_TYPE_IMROPE",
    "LLAMA_ROPE_TYPE_MROPE",
)


def check_symbols(ffi: Any, lib: Any, where: str) -> None:
    """See that each name is declared and, if it is a function, is in the library.

    Args:
        ffi: the cffi instance.
        lib: the opened library.
        where: the build's folder, for the sentence.

    Raises:
        CheckFailed: names are missing; the sentence has all of them.
    """
    missing = []
    for name in (*FUNCTIONS, *CONSTANTS):
        try:
            getattr(lib, name)
        except (AttributeError, ffi.error):
            missing.append(name)
    if missing:
        raise CheckFailed(
            f"the library in {where} lacks {', '.join(missing)}, which llt needs: run `llt build` again, or build"
            " another version of llama.cpp"
        )
