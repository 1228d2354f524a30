#include "engine/layout.h"

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <type_traits>

#include "engine/arguments.h"
#include "engine/inference.h"
#include "engine/model.h"

namespace storycell {
namespace {

struct Field {
    const char *name, *kind;
    size_t offset, size;
};

template <class T>
constexpr const char* kind_of() {
    static_assert(std::is_pointer_v<T> || std::is_same_v<T, int64_t> || std::is_same_v<T, uint64_t> ||
                      std::is_same_v<T, double>,
                  "all fields are as wide as an int64_t, so that structs have no holes");
    if (std::is_pointer_v<T>) return "pointer";
    return std::is_same_v<T, int64_t> ? "int64" : std::is_same_v<T, uint64_t> ? "uint64" : "double";
}

// Whether the list names every field of a struct of `size` bytes, in order (where pointers are as wide as the rest).
template <size_t kCount>
constexpr bool whole(const Field (&fields)[kCount], size_t size) {
    if (sizeof(void*) != sizeof(int64_t)) return true;
    size_t end = 0;
    for (const Field& f : fields) {
        if (f.offset != end) return false;
        end += f.size;
    }
    return end == size;
}

#define FIELD(name) Field{#name, kind_of<decltype(Here::name)>(), offsetof(Here, name), sizeof(Here::name)}
#define STRUCT(Name, ...)                                                                    \
    namespace of_##Name {                                                                    \
    using Here = Name;                                                                       \
    constexpr Field fields[] = {__VA_ARGS__};                                                \
    static_assert(whole(fields, sizeof(Name)), "a field of " #Name " is missing or misplaced here"); \
    }

STRUCT(Recurrence, FIELD(cell), FIELD(precision), FIELD(steps), FIELD(streams), FIELD(units), FIELD(characters),
       FIELD(packed), FIELD(ids), FIELD(ids_stream_stride), FIELD(ids_step_stride), FIELD(table), FIELD(projected),
       FIELD(reset_bias), FIELD(hidden), FIELD(cell_state), FIELD(saved), FIELD(carry), FIELD(grad_output),
       FIELD(grad_hidden), FIELD(grad_carry), FIELD(grad_initial), FIELD(descending),
       FIELD(gate_bias), FIELD(real_units), FIELD(normalised), FIELD(mean_squares), FIELD(grad_gates))
STRUCT(Product, FIELD(precision), FIELD(rows), FIELD(inner), FIELD(columns), FIELD(left), FIELD(left_stride),
       FIELD(packed), FIELD(bias), FIELD(out), FIELD(descending))
STRUCT(TransposedProduct, FIELD(precision), FIELD(rows), FIELD(m), FIELD(n), FIELD(left), FIELD(left_stride),
       FIELD(right), FIELD(right_stride), FIELD(out), FIELD(column_sums), FIELD(table_grad), FIELD(ids),
       FIELD(ids_stream_stride), FIELD(ids_step_stride), FIELD(streams), FIELD(characters))
STRUCT(TableGradient, FIELD(precision), FIELD(cell), FIELD(steps), FIELD(streams), FIELD(units), FIELD(characters),
       FIELD(ids), FIELD(ids_stream_stride), FIELD(ids_step_stride), FIELD(gate_grads), FIELD(grad))
STRUCT(OutputLoss, FIELD(precision), FIELD(steps), FIELD(streams), FIELD(units), FIELD(characters), FIELD(hidden),
       FIELD(packed_forward), FIELD(packed_backward), FIELD(bias), FIELD(targets), FIELD(targets_stream_stride),
       FIELD(targets_step_stride), FIELD(scale), FIELD(losses), FIELD(logit_grads), FIELD(grad_hidden), FIELD(soft),
       FIELD(share))
STRUCT(Dropout, FIELD(precision), FIELD(count), FIELD(period), FIELD(seed), FIELD(keep), FIELD(from), FIELD(to))
#define LISTED(type, name) FIELD(name),
STRUCT(Choice, STORYCELL_CHOICE(LISTED))
#undef LISTED
STRUCT(GenerationLayer, FIELD(packed_recurrent), FIELD(packed_input), FIELD(table), FIELD(input_bias),
       FIELD(reset_bias), FIELD(hidden), FIELD(carry), FIELD(projected), FIELD(gate_bias))
STRUCT(Generation, FIELD(cell), FIELD(precision), FIELD(layers), FIELD(streams), FIELD(units), FIELD(characters),
       FIELD(length), FIELD(layer), FIELD(packed_output), FIELD(output_bias), FIELD(logits), FIELD(current),
       FIELD(random), FIELD(out), FIELD(kept_logits), FIELD(choice), FIELD(unknown), FIELD(ngrams),
       FIELD(ngram_rows), FIELD(matches), FIELD(embedding), FIELD(embedding_weight), FIELD(context_table), FIELD(past), FIELD(vectors),
       FIELD(real_units))
STRUCT(Tensor, FIELD(value), FIELD(grad), FIELD(mean), FIELD(square), FIELD(step), FIELD(count), FIELD(rate),
       FIELD(decay), FIELD(beta1), FIELD(beta2), FIELD(epsilon))
STRUCT(Tensors, FIELD(tensors), FIELD(tensor), FIELD(factor), FIELD(sums))
STRUCT(ModelConfig, FIELD(cell), FIELD(layers), FIELD(units), FIELD(characters), FIELD(embedding), FIELD(gate_bias),
       FIELD(precision), FIELD(threads), FIELD(dropout), FIELD(weight_dropout), FIELD(embedding_dropout), FIELD(ngrams), FIELD(ngram_rows),
       FIELD(matches), FIELD(gate_norm))
STRUCT(Chunk, FIELD(streams), FIELD(steps), FIELD(ids), FIELD(targets), FIELD(resets), FIELD(carries), FIELD(seed),
       FIELD(soft), FIELD(share), FIELD(nats), FIELD(norm))
STRUCT(Update, FIELD(method), FIELD(rate), FIELD(clip), FIELD(decay), FIELD(beta1), FIELD(beta2))
STRUCT(NetworkLayer, FIELD(input), FIELD(recurrent), FIELD(input_bias), FIELD(recurrent_bias))
STRUCT(NetworkWeights, FIELD(cell), FIELD(layers), FIELD(units), FIELD(characters), FIELD(embedding),
       FIELD(embedding_weight), FIELD(layer), FIELD(output), FIELD(output_bias), FIELD(ngrams),
       FIELD(ngram_rows), FIELD(matches), FIELD(context_table), FIELD(gate_norm))
STRUCT(Reading, FIELD(streams), FIELD(steps), FIELD(ids), FIELD(targets), FIELD(hidden), FIELD(cell),
       FIELD(final_hidden), FIELD(final_cell), FIELD(losses), FIELD(logits), FIELD(hiddens), FIELD(cells), FIELD(past),
       FIELD(final_past))
STRUCT(Writing, FIELD(streams), FIELD(length), FIELD(unknown), FIELD(hidden), FIELD(cell), FIELD(final_hidden),
       FIELD(final_cell), FIELD(current), FIELD(random), FIELD(choice), FIELD(out), FIELD(logits),
       FIELD(past))

// Appends lines to a text of fixed size; what does not fit is dropped, and the comparison then fails.
struct Text {
    char characters[16384] = {};
    size_t length = 0;

    template <class... Values>
    void line(const char* format, Values... values) {
        const size_t room = sizeof characters - length;
        const int wanted = std::snprintf(characters + length, room, format, values...);
        if (wanted > 0 && static_cast<size_t>(wanted) < room) length += static_cast<size_t>(wanted);
    }

    template <size_t kCount>
    void describe(const char* name, size_t size, const Field (&fields)[kCount]) {
        line("struct %s %llu\n", name, static_cast<unsigned long long>(size));
        for (const Field& f : fields)
            line("field %s %s %llu\n", f.name, f.kind, static_cast<unsigned long long>(f.offset));
    }
};

#define DESCRIBE(Name) text.describe(#Name, sizeof(Name), of_##Name::fields)
Text written() {
    Text text;
    for (const CellShape& cell : kCells)
        text.line("cell %s %d %d %d\n", cell.name, cell.gates, cell.saved, cell.back);
    DESCRIBE(Recurrence);
    DESCRIBE(Product);
    DESCRIBE(TransposedProduct);
    DESCRIBE(TableGradient);
    DESCRIBE(OutputLoss);
    DESCRIBE(Dropout);
    DESCRIBE(Choice);
    DESCRIBE(GenerationLayer);
    DESCRIBE(Generation);
    DESCRIBE(Tensor);
    DESCRIBE(Tensors);
    DESCRIBE(ModelConfig);
    DESCRIBE(Chunk);
    DESCRIBE(Update);
    DESCRIBE(NetworkLayer);
    DESCRIBE(NetworkWeights);
    DESCRIBE(Reading);
    DESCRIBE(Writing);
    return text;
}

}  // namespace

const char* layout() {
    static const Text text = written();
    return text.characters;
}

}  // namespace storycell
