#include "engine/sampler.h"

#include <algorithm>
#include <cmath>

namespace storycell {

int64_t Sampler::draw(const float* logits, const Choice& how, uint32_t* random) {
    const int64_t V = characters;
    int64_t best = -1;
    for (int64_t j = 0; j < V; ++j) {
        if (j == unknown) continue;
        if (std::isnan(logits[j])) return -1;
        if (best < 0 || logits[j] > logits[best]) best = j;
    }
    if (best < 0 || std::isinf(logits[best])) return -1;
    if (how.greedy) return best;

    const double top = logits[best];
    double total = 0.0;
    kernels.sampling_weights(logits, V, top, how.temperature, weight.data());
    if (unknown >= 0 && unknown < V) weight[unknown] = 0.0;
    for (int64_t j = 0; j < V; ++j) total += weight[j];
    const bool by_count = how.top_k > 0 && how.top_k < V, by_mass = how.top_p < 1.0;
    if (by_count || by_mass) {
        for (int64_t j = 0; j < V; ++j) order[j] = static_cast<int32_t>(j);
        const auto ahead = [&](int32_t a, int32_t b) {
            return weight[a] != weight[b] ? weight[a] > weight[b] : a < b;
        };
        int64_t kept = V;
        if (by_mass) {
            std::sort(order.begin(), order.end(), ahead);
        } else {
            std::nth_element(order.begin(), order.begin() + (how.top_k - 1), order.end(), ahead);
        }
        if (by_count) {
            kept = how.top_k;
            total = 0.0;
            for (int64_t i = 0; i < kept; ++i) total += weight[order[i]];
        }
        if (by_mass) {  // the fewest characters that reach the mass, at least one
            const double wanted = how.top_p * total;
            double mass = 0.0;
            int64_t i = 0;
            while (i < kept && (i == 0 || mass < wanted)) mass += weight[order[i++]];
            kept = i;
        }
        for (int64_t i = kept; i < V; ++i) weight[order[i]] = 0.0;
    }
    if (how.min_p > 0.0)  // the largest weight is 1
        for (int64_t j = 0; j < V; ++j)
            if (weight[j] < how.min_p && j != best) weight[j] = 0.0;

    if (by_count || by_mass || how.min_p > 0.0) {
        total = 0.0;
        for (int64_t j = 0; j < V; ++j) total += weight[j];
    }
    const double point = next_random(random) * 0x1p-32 * total;
    double sum = 0.0;
    int64_t last = best;
    for (int64_t j = 0; j < V; ++j) {
        if (weight[j] == 0.0) continue;
        sum += weight[j];
        last = j;
        if (point < sum) break;
    }
    return last;
}

}  // namespace storycell
