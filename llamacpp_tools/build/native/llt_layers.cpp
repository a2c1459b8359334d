// Which device holds which tensor. The library logs where it means to put a layer; this is where the weights are.
#include "llt_shim.h"

#include "llama-model.h"

static const ggml_tensor * tensor_at(const llama_model * model, int32_t index) {
    return llama_internal_get_tensor_map(model)[index].second;
}

int32_t llt_tensor_count(const llama_model * model) {
    return (int32_t) llama_internal_get_tensor_map(model).size();
}

const char * llt_tensor_name(const llama_model * model, int32_t index) {
    return llama_internal_get_tensor_map(model)[index].first.c_str();
}

ggml_backend_dev_t llt_tensor_device(const llama_model * model, int32_t index) {
    const ggml_backend_buffer_t buffer = tensor_at(model, index)->buffer;
    return buffer == nullptr ? nullptr : ggml_backend_buft_get_device(ggml_backend_buffer_get_type(buffer));
}
