// A finished build proves itself: the same tokens through f32, f16, q8_0 and q4_K weights, at batches of 1 to 64.
//
//   llt_prove MODEL.f32.gguf FOLDER N_GPU_LAYERS
//
// Writes the quantised copies into FOLDER and prints one JSON line before and after each step, so that the
// parent knows what was being done if this process dies. It judges nothing: it reports distances. Layers that shall
// lie on a GPU where there is none are no proof of anything, which is all that is said then.

#include "llama.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

namespace {

constexpr int n_tokens = 64;

struct format {
    const char * name;
    llama_ftype  ftype;
};

// Normalised mean squared error: |a - b|^2 / |b|^2 over all positions; NaN and infinity count as 1e9.
double nmse(const std::vector<float> & a, const std::vector<float> & b) {
    double error = 0.0;
    double scale = 0.0;
    for (size_t i = 0; i < a.size(); ++i) {
        const double d = (double) a[i] - (double) b[i];
        error += d * d;
        scale += (double) b[i] * (double) b[i];
    }
    const double value = error / scale;
    return std::isfinite(value) ? value : 1e9;
}

bool logits_at_batch(llama_model * model, int n_batch, std::vector<float> & out) {
    const int n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));

    llama_context_params params = llama_context_default_params();
    params.n_ctx           = 256;
    params.n_batch         = 64;
    params.n_ubatch        = 64;
    params.n_threads       = 2;
    params.n_threads_batch = 2;
    params.swa_full        = false;

    llama_context * ctx = llama_init_from_model(model, params);
    if (ctx == nullptr) {
        return false;
    }
    llama_batch batch = llama_batch_init(n_batch, 0, 1);
    out.resize((size_t) n_tokens * n_vocab);

    bool ok = true;
    for (int begin = 0; ok && begin < n_tokens; begin += n_batch) {
        batch.n_tokens = std::min(n_batch, n_tokens - begin);
        for (int i = 0; i < batch.n_tokens; ++i) {
            batch.token[i]     = 3 + (begin + i) * 31 % (n_vocab - 3);
            batch.pos[i]       = begin + i;
            batch.n_seq_id[i]  = 1;
            batch.seq_id[i][0] = 0;
            batch.logits[i]    = 1;
        }
        ok = llama_decode(ctx, batch) == 0;
        for (int i = 0; ok && i < batch.n_tokens; ++i) {
            const float * row = llama_get_logits_ith(ctx, i);
            std::copy(row, row + n_vocab, out.begin() + (size_t) (begin + i) * n_vocab);
        }
    }
    llama_batch_free(batch);
    llama_free(ctx);
    return ok;
}

void say(const char * step, const char * format, int n_batch) {
    std::printf("{\"step\": \"%s\", \"format\": \"%s\", \"n_batch\": %d}\n", step, format, n_batch);
    std::fflush(stdout);
}

// What is no CPU takes the layers; without one they stay where they are, and nothing new is proved.
bool has_gpu() {
    for (size_t i = 0; i < ggml_backend_dev_count(); ++i) {
        const enum ggml_backend_dev_type type = ggml_backend_dev_type(ggml_backend_dev_get(i));
        if (type == GGML_BACKEND_DEVICE_TYPE_GPU || type == GGML_BACKEND_DEVICE_TYPE_IGPU) {
            return true;
        }
    }
    return false;
}

int fail(const char * format, int n_batch, const char * why) {
    std::printf("{\"step\": \"failed\", \"format\": \"%s\", \"n_batch\": %d, \"why\": \"%s\"}\n", format, n_batch, why);
    return 1;
}

void drop_log(ggml_log_level level, const char * text, void *) {
    if (level == GGML_LOG_LEVEL_ERROR) {
        std::fputs(text, stderr);
    }
}

} // namespace

int main(int argc, char ** argv) {
    if (argc != 4) {
        std::fprintf(stderr, "usage: llt_prove MODEL.f32.gguf FOLDER N_GPU_LAYERS\n");
        return 2;
    }
    llama_log_set(drop_log, nullptr);
    llama_backend_init();

    if (std::atoi(argv[3]) > 0 && !has_gpu()) {
        say("no_gpu", "", 0);
        return 0;
    }
    const format formats[] = {
        { "f32",  LLAMA_FTYPE_ALL_F32 },
        { "f16",  LLAMA_FTYPE_MOSTLY_F16 },
        { "q8_0", LLAMA_FTYPE_MOSTLY_Q8_0 },
        { "q4_K", LLAMA_FTYPE_MOSTLY_Q4_K_S },
    };
    const int batches[] = { 1, 2, 4, 8, 16, 64 };

    std::vector<float> reference;
    for (const format & f : formats) {
        std::string path = argv[1];
        if (f.ftype != LLAMA_FTYPE_ALL_F32) {
            say("quantize", f.name, 0);
            path = std::string(argv[2]) + "/proof-" + f.name + ".gguf";
            llama_model_quantize_params params = llama_model_quantize_default_params();
            params.nthread = 2;
            params.ftype   = f.ftype;
            if (llama_model_quantize(argv[1], path.c_str(), &params) != 0) {
                return fail(f.name, 0, "quantize");
            }
        }
        llama_model_params params = llama_model_default_params();
        params.n_gpu_layers = std::atoi(argv[3]);
        llama_model * model = llama_model_load_from_file(path.c_str(), params);
        if (model == nullptr) {
            return fail(f.name, 0, "load");
        }
        std::vector<float> single;
        std::vector<float> logits;
        for (const int n_batch : batches) {
            say("decode", f.name, n_batch);
            if (!logits_at_batch(model, n_batch, logits)) {
                return fail(f.name, n_batch, "decode");
            }
            if (single.empty()) {
                single = logits;
            }
            if (reference.empty()) {
                reference = logits;
            }
            std::printf("{\"step\": \"decoded\", \"format\": \"%s\", \"n_batch\": %d, \"nmse_f32\": %.3e, "
                        "\"nmse_single\": %.3e}\n",
                    f.name, n_batch, nmse(logits, reference), nmse(logits, single));
            std::fflush(stdout);
        }
        llama_model_free(model);
    }
    say("done", "", 0);
    llama_backend_free();
    return 0;
}
