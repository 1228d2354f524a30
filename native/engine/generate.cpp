#include "engine/generate.h"

#include <cstring>
#include <vector>

#include "engine/context.h"
#include "engine/sampler.h"

namespace storycell {

Status generate_streams(const Kernels& kernels, const Generation& a, int64_t first, int64_t last) {
    const int64_t H = a.units, B = a.streams, wide = (a.characters + 15) / 16 * 16;
    const int64_t gates = kCells[a.cell].gates;
    const auto element = static_cast<size_t>(kElementBytes[a.precision]);
    Sampler sampler(kernels, a.characters, a.unknown);
    const ContextShape shape{a.ngrams, a.ngram_rows, a.matches, a.characters};
    std::vector<Context> contexts(static_cast<size_t>(shape.any() ? last - first : 0), Context(shape));
    for (size_t b = 0; b < contexts.size(); ++b)
        contexts[b].begin(a.past + (first + static_cast<int64_t>(b)) * shape.memory());
    std::vector<int64_t> met(static_cast<size_t>(shape.met()));
    // Slot 1 of `hidden` holds the new states, slot 0 the old.
    const auto slot = [&](void* hidden, int64_t index) {
        return static_cast<char*>(hidden) + static_cast<size_t>(index * B * H) * element;
    };
    const size_t begin = static_cast<size_t>(first * H) * element;
    const size_t bytes = static_cast<size_t>((last - first) * H) * element;

    for (int64_t n = 0; n < a.length; ++n) {
        // One layer's weights are read there and back again, so that each character finds in the cache
        // what the one before it read last. Of several layers nothing would be left.
        const int64_t back = a.layers == 1 ? n % 2 : 0;
        for (int64_t l = 0; l < a.layers; ++l) {
            const GenerationLayer& layer = a.layer[l];
            Recurrence r{};
            r.cell = a.cell;
            r.precision = a.precision;
            r.descending = back;
            r.steps = 1;
            r.streams = B;
            r.units = H;
            r.packed = layer.packed_recurrent;
            r.reset_bias = layer.reset_bias;
            r.hidden = layer.hidden;
            r.carry = layer.carry;
            r.gate_bias = layer.gate_bias, r.real_units = a.real_units;
            if (l == 0 && shape.any()) {
                const int64_t D = a.embedding;
                for (int64_t b = first; b < last; ++b) {
                    contexts[static_cast<size_t>(b - first)].meet(a.current[b], met.data());
                    add_rows(shape, met.data(), D, a.embedding_weight, a.context_table, a.current[b], a.vectors + b * D);
                }
                const Product input{kFloat32, B, D, gates * H, a.vectors, D, layer.packed_input, layer.input_bias,
                                    layer.projected, back};
                if (const Status bad = kernels.product(input, first, last)) return bad;
                r.projected = layer.projected;
            } else if (l == 0) {
                r.ids = a.current;
                r.ids_stream_stride = 1;
                r.table = layer.table;
            } else {
                const Product input{a.precision, B, H, gates * H,
                                    slot(a.layer[l - 1].hidden, 1), H,
                                    layer.packed_input, layer.input_bias, layer.projected, back};
                if (const Status bad = kernels.product(input, first, last)) return bad;
                r.projected = layer.projected;
            }
            if (const Status bad = kernels.forward(r, {first, last, 0, 1, 0, 1})) return bad;
        }
        const Product output{a.precision, B, H, wide, slot(a.layer[a.layers - 1].hidden, 1), H,
                             a.packed_output, a.output_bias, a.logits, back};
        if (const Status bad = kernels.product(output, first, last)) return bad;
        for (int64_t l = 0; l < a.layers; ++l)
            std::memcpy(slot(a.layer[l].hidden, 0) + begin, slot(a.layer[l].hidden, 1) + begin,
                        bytes);
        for (int64_t b = first; b < last; ++b) {
            const float* logits = a.logits + b * wide;
            if (a.kept_logits)
                std::memcpy(a.kept_logits + (b * a.length + n) * wide, logits,
                            static_cast<size_t>(wide) * sizeof(float));
            const int64_t id = sampler.draw(logits, a.choice[b], a.random + 4 * b);
            if (id < 0) return kNotFinite;
            a.current[b] = id;
            a.out[b * a.length + n] = id;
        }
    }
    for (size_t b = 0; b < contexts.size(); ++b)
        contexts[b].end(a.past + (first + static_cast<int64_t>(b)) * shape.memory());
    return kOk;
}

}  // namespace storycell
