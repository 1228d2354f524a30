// Training steps of one model, for counting instructions: training_steps ISA PRECISION UNITS STREAMS STEPS UPDATES.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "engine/model.h"

using namespace storycell;

namespace {

int failed(const char* what) {
    std::fprintf(stderr, "training_steps: %s\n", what);
    return 1;
}

}  // namespace

int main(int count, char** words) {
    if (count != 7) return failed("ISA PRECISION UNITS STREAMS STEPS UPDATES");
    if (storycell_use_isa(words[1])) return failed("this processor does not run that instruction set");
    int64_t numbers[5];
    for (int i = 0; i < 5; ++i) numbers[i] = std::atoll(words[2 + i]);
    const auto [precision, units, streams, steps, updates] = numbers;
    constexpr int64_t characters = 96;
    const ModelConfig config{kLstm, 1, units, characters, 0, 1, precision, 1, 0, 0, 0, 0, 0};
    Model* m = storycell_model_create(&config);
    if (!m) return failed("no model");
    for (int64_t i = 0; i < storycell_model_tensors(m); ++i) {
        const int64_t columns = storycell_model_columns(m, i);
        std::vector<float> values(static_cast<size_t>(storycell_model_rows(m, i) * (columns ? columns : 1)));
        for (float& x : values) x = 0.1f * (static_cast<float>(std::rand()) / static_cast<float>(RAND_MAX) - 0.5f);
        if (storycell_model_write(m, kWeight, i, values.data())) return failed("no weights");
    }
    std::vector<int64_t> ids(static_cast<size_t>(streams * steps)), targets = ids;
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = std::rand() % characters, targets[i] = std::rand() % characters;
    Chunk chunk{streams, steps, ids.data(), targets.data(), nullptr, 1, 7, 0, 0};
    const Update update{kAdamW, 1e-3, 1, 0.01, 0.9, 0.99};
    for (int64_t i = 0; i < updates; ++i)
        if (storycell_model_gradient(m, &chunk) || storycell_model_apply(m, &update)) return failed("no step");
    std::printf("%s %.6f\n", storycell_isa(), chunk.nats);
    storycell_model_free(m);
    return 0;
}
