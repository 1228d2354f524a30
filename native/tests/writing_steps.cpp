// A text written by one network, for counting instructions: writing_steps ISA PRECISION UNITS LAYERS STREAMS LENGTH.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "engine/inference.h"

using namespace storycell;

namespace {

int failed(const char* what) {
    std::fprintf(stderr, "writing_steps: %s\n", what);
    return 1;
}

}  // namespace

int main(int count, char** words) {
    if (count != 7) return failed("ISA PRECISION UNITS LAYERS STREAMS LENGTH");
    if (storycell_use_isa(words[1])) return failed("this processor does not run that instruction set");
    int64_t numbers[5];
    for (int i = 0; i < 5; ++i) numbers[i] = std::atoll(words[2 + i]);
    const auto [precision, units, depth, streams, length] = numbers;
    constexpr int64_t characters = 96;
    std::vector<std::vector<float>> kept;
    const auto weight = [&](int64_t n) {
        std::vector<float> values(static_cast<size_t>(n));
        for (float& x : values) x = 0.1f * (static_cast<float>(std::rand()) / static_cast<float>(RAND_MAX) - 0.5f);
        kept.push_back(std::move(values));
        return kept.back().data();
    };
    std::vector<NetworkLayer> layers;
    for (int64_t k = 0; k < depth; ++k) {
        const float* input = weight(4 * units * (k ? units : characters));
        layers.push_back({input, weight(4 * units * units), nullptr, nullptr});
    }
    const NetworkWeights w{kLstm,         depth,   units, characters, 0, nullptr, layers.data(), weight(characters * units),
                           weight(characters)};
    Network* network = nullptr;
    if (storycell_network_create(&w, precision, 1, &network)) return failed("no network");
    const size_t states = static_cast<size_t>(depth * streams * units);
    std::vector<float> hidden(states), cell(states);
    std::vector<int64_t> current(static_cast<size_t>(streams), 1), out(static_cast<size_t>(streams * length));
    std::vector<uint32_t> random(static_cast<size_t>(streams * 4), 7);
    const std::vector<Choice> choice(static_cast<size_t>(streams), Choice{1, 1, 0, 0, 1});
    const Writing a{streams,        length,         -1,            nullptr,    nullptr, hidden.data(), cell.data(),
                    current.data(), random.data(), choice.data(), out.data(), nullptr};
    if (storycell_network_write(network, &a, 1)) return failed("no text");
    std::printf("%s %lld\n", storycell_isa(), static_cast<long long>(out.back()));
    storycell_network_free(network);
    return 0;
}
