// The model that learns: memory refused at every allocation, after which nothing has changed; sizes, ids and pointers
// that are refused; and the kernels that only it calls, against those that everybody calls. Its numbers are compared with
// the reference in tests/engine/.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <numeric>
#include <vector>

#include "engine/context.h"
#include "engine/kernels.h"
#include "engine/model.h"
#include "tests/scarce_memory.h"

using namespace storycell;

namespace {

int failures = 0;

void expect(bool ok, const char* what) {
    if (ok) return;
    ++failures;
    std::printf("FAILED: %s (%s)\n", what, storycell_isa());
}

constexpr int64_t kCharacters = 19, kStreams = 5, kLength = 4, kNgramRows = 50;

ModelConfig config(int64_t cell, int64_t precision, int64_t ngrams = 0, int64_t matches = 0, int64_t gate_norm = 0) {
    return {cell, 2, 17, kCharacters, 9, 1, precision, 2, 0.2, 0.3, 0.4, ngrams, ngrams ? kNgramRows : 0, matches,
            gate_norm};
}

// Everything of a model that a failure must leave as it was.
std::vector<float> everything(const Model* m) {
    std::vector<float> all;
    for (int kind = 0; kind < kKinds; ++kind)
        for (int64_t i = 0; i < storycell_model_tensors(m) && kind != kGradient; ++i) {
            all.push_back(static_cast<float>(storycell_model_has(m, kind, i)));
            if (!storycell_model_has(m, kind, i)) continue;
            const int64_t columns = storycell_model_columns(m, i), rows = storycell_model_rows(m, i);
            const size_t at = all.size();
            all.resize(at + static_cast<size_t>(kind == kStep ? 1 : rows * (columns && kind != kSum ? columns : 1)));
            expect(!storycell_model_read(m, kind, i, &all[at]), "a tensor is read");
        }
    const int64_t B = storycell_model_streams(m);
    std::vector<float> state(static_cast<size_t>(2 * B * 17)), cell = state;
    if (B) expect(!storycell_model_read_state(m, state.data(), cell.data()), "a state is read");
    all.insert(all.end(), state.begin(), state.end());
    all.insert(all.end(), cell.begin(), cell.end());
    std::vector<int64_t> past(static_cast<size_t>(kMemory * B));
    if (B) expect(!storycell_model_read_past(m, past.data()), "the past is read");
    all.insert(all.end(), past.begin(), past.end());
    return all;
}

// The call with each of its allocations refused in turn: it says so and changes nothing, and then it works.
template <class Call>
void unharmed_by_lack_of_memory(const char* what, const Model* m, Call call) {
    const auto before = everything(m);
    for (int n = 0;; ++n) {
        grant_allocations(n);
        const int status = call();
        const int refused = refused_allocations();
        grant_allocations(kUnlimited);
        if (!refused) {
            expect(n > 0, "the call allocates nothing, so this shows nothing");
            return expect(status == kOk, what);
        }
        expect(status == kNoMemory, what);
        expect(everything(m) == before, what);
    }
}

// How many allocations a call makes.
template <class Call>
int allocations(Call call) {
    constexpr int plenty = 1 << 20;
    grant_allocations(plenty);
    const int status = call();
    const int left = granted_allocations();
    grant_allocations(kUnlimited);
    expect(status == kOk, "a call that is counted");
    return plenty - left;
}

struct Text {
    std::vector<int64_t> ids, targets;
    Chunk chunk{};
    explicit Text(int64_t streams = kStreams) {
        for (int64_t i = 0; i < streams * kLength; ++i) {
            ids.push_back(std::rand() % 5 ? 1 + std::rand() % 2 : std::rand() % kCharacters);  // so that some match
            targets.push_back(std::rand() % kCharacters);
        }
        chunk = {streams, kLength, ids.data(), targets.data(), nullptr, 1, 7, 0, 0};
    }
};

void give_weights(Model* m) {
    for (int64_t i = 0; i < storycell_model_tensors(m); ++i) {
        const int64_t columns = storycell_model_columns(m, i);
        std::vector<float> values(static_cast<size_t>(storycell_model_rows(m, i) * (columns ? columns : 1)));
        for (float& x : values) x = static_cast<float>(std::rand()) / static_cast<float>(RAND_MAX) - 0.5f;
        expect(!storycell_model_write(m, kWeight, i, values.data()), "weights are written");
    }
}

Model* created(const ModelConfig& c) {
    for (int n = 0;; ++n) {
        grant_allocations(n);
        Model* m = storycell_model_create(&c);
        const int refused = refused_allocations();
        grant_allocations(kUnlimited);
        expect((m != nullptr) == (refused == 0), "a model is made where there is memory, and only there");
        if (m) return m;
    }
}

void learning(int64_t cell, int64_t precision, int64_t method, int64_t ngrams, int64_t matches, int64_t gate_norm) {
    Model* m = created(config(cell, precision, ngrams, matches, gate_norm));
    const int64_t of_context = (ngrams ? kNgramRows : 0) + matches * kCharacters;
    give_weights(m);
    Text text;
    const Update update{method, 0.01, 0.5, 0.1, 0.9, 0.99};
    expect(storycell_model_apply(m, &update) == kMissing, "no step without a gradient");
    unharmed_by_lack_of_memory("a gradient", m, [&] { return storycell_model_gradient(m, &text.chunk); });
    if (method == kSgd) expect(!storycell_model_apply(m, &update), "a step of descent");
    else unharmed_by_lack_of_memory("a step", m, [&] { return storycell_model_apply(m, &update); });
    unharmed_by_lack_of_memory("a mean", m, [&] { return storycell_model_average(m, 0.9); });
    const std::vector<float> state(static_cast<size_t>(2 * kStreams * 17), 0.25f);
    unharmed_by_lack_of_memory("a state", m, [&] {
        return storycell_model_write_state(m, kStreams, state.data(), state.data());
    });

    if (of_context) {
        const auto count = static_cast<size_t>(of_context);
        std::vector<int64_t> rows(count);
        std::iota(rows.begin(), rows.end(), 0);
        const std::vector<float> gradients(count * 9, 0.5f);
        expect(!storycell_model_gradient(m, &text.chunk) && storycell_model_met(m) < of_context, "a gradient of some rows");
        expect(!storycell_model_write_met(m, of_context, rows.data(), gradients.data()), "a gradient of all rows");
        std::vector<int64_t> rows_back(count);
        std::vector<float> gradients_back(count * 9);
        expect(storycell_model_met(m) == of_context, "all rows");
        unharmed_by_lack_of_memory("a gradient that is read", m, [&] {
            return storycell_model_read_met(m, rows_back.data(), gradients_back.data());
        });
        expect(rows_back == rows && gradients_back == gradients, "comes back");
        double norm = 0;
        expect(!storycell_model_measure(m, &norm) && norm >= 0.5 * std::sqrt(static_cast<double>(of_context) * 9), "is measured");
        expect(!storycell_model_apply(m, &update), "and applied");
    }

    // Once two carried states have their place only the kernels' scratch is asked for, as often in every step.
    const auto step = [&] {
        if (const int bad = storycell_model_gradient(m, &text.chunk)) return bad;
        if (const int bad = storycell_model_apply(m, &update)) return bad;
        return storycell_model_average(m, 0.9);
    };
    allocations(step);
    const int third = allocations(step), fourth = allocations(step), gradient = allocations([&] {
        return storycell_model_gradient(m, &text.chunk);
    });
    expect(third == fourth, "no step asks for more than the one before");
    expect(fourth == gradient, "optimisers ask for no memory after their first steps");
    expect(!storycell_model_apply(m, &update), "a step");

    const auto before = everything(m);
    Text others(kStreams + 1);
    expect(storycell_model_gradient(m, &others.chunk) == kOtherStreams, "other streams are refused");
    expect(storycell_model_apply(m, &update) == kMissing, "a gradient that failed is not applied");
    for (auto* ids : {&text.ids, &text.targets})
        for (int64_t bad : {int64_t{-1}, kCharacters, std::numeric_limits<int64_t>::max()}) {
            std::swap(ids->back(), bad);
            expect(storycell_model_gradient(m, &text.chunk) == kBadCharacter, "unknown characters are refused");
            std::swap(ids->back(), bad);
        }
    const auto refused = [&](Chunk c, int status) {
        expect(storycell_model_gradient(m, &c) == status, "a chunk is refused");
    };
    refused({0, kLength, text.ids.data(), text.targets.data(), nullptr, 0, 0, 0, 0}, kBadSize);
    refused({kStreams, -1, text.ids.data(), text.targets.data(), nullptr, 0, 0, 0, 0}, kBadSize);
    refused({1 << 20, 1 << 20, text.ids.data(), text.targets.data(), nullptr, 0, 0, 0, 0}, kBadSize);
    refused({kStreams, kLength, nullptr, text.targets.data(), nullptr, 0, 0, 0, 0}, kMissing);
    refused({kStreams, kLength, text.ids.data(), nullptr, nullptr, 0, 0, 0, 0}, kMissing);
    expect(everything(m) == before, "what is refused changes nothing");

    float nan = std::numeric_limits<float>::quiet_NaN();
    std::vector<float> bias(kCharacters, nan);
    const int64_t last = storycell_model_tensors(m) - (of_context ? 2 : 1);
    expect(!storycell_model_write(m, kWeight, last, bias.data()), "a bias is written");
    expect(!storycell_model_gradient(m, &text.chunk), "a gradient that is not finite");
    const auto broken = everything(m);
    expect(storycell_model_apply(m, &update) == kNotFinite, "is not applied");
    const auto after = everything(m);
    expect(broken.size() == after.size(), "and changes nothing");
    for (size_t i = 0; i < after.size(); ++i)
        expect(broken[i] == after[i] || (std::isnan(broken[i]) && std::isnan(after[i])), "and changes nothing");
    storycell_model_free(m);
}

void refusals() {
    expect(!storycell_model_create(nullptr), "no configuration");
    const auto bad = [](auto change) {
        ModelConfig c = config(kLstm, 0);
        change(c);
        Model* m = storycell_model_create(&c);
        expect(!m, "a configuration is refused");
        storycell_model_free(m);
    };
    constexpr int64_t huge = std::numeric_limits<int64_t>::max();
    for (int64_t x : {int64_t{-1}, huge, std::numeric_limits<int64_t>::min()}) {
        bad([=](ModelConfig& c) { c.cell = x; });
        bad([=](ModelConfig& c) { c.layers = x; });
        bad([=](ModelConfig& c) { c.units = x; });
        bad([=](ModelConfig& c) { c.characters = x; });
        bad([=](ModelConfig& c) { c.embedding = x; });
        bad([=](ModelConfig& c) { c.precision = x; });
        bad([=](ModelConfig& c) { c.threads = x; });
        bad([=](ModelConfig& c) { c.ngrams = x, c.ngram_rows = 50; });
        bad([=](ModelConfig& c) { c.ngrams = 3, c.ngram_rows = x; });
        bad([=](ModelConfig& c) { c.matches = x; });
        bad([=](ModelConfig& c) { c.gate_norm = x; });
    }
    for (int64_t cell : {kGru, kRnn}) bad([=](ModelConfig& c) { c.cell = cell, c.gate_norm = 1; });
    bad([](ModelConfig& c) { c.gate_bias = 0, c.gate_norm = 1; });
    for (int64_t x : {int64_t{1}, kLongestMatch + 1}) bad([=](ModelConfig& c) { c.matches = x; });
    bad([](ModelConfig& c) { c.matches = 4, c.embedding = 0; });
    for (double x : {-0.1, 1.0, std::nan("")}) {
        bad([=](ModelConfig& c) { c.dropout = x; });
        bad([=](ModelConfig& c) { c.weight_dropout = x; });
        bad([=](ModelConfig& c) { c.embedding_dropout = x; });
    }
    const ModelConfig c = config(kLstm, 0);
    Model* m = storycell_model_create(&c);
    float number = 0;
    double norm = 0;
    int64_t row = 0;
    expect(!storycell_model_gradients(nullptr, &row) && !storycell_model_gradients(m, nullptr), "no gradients of nothing");
    Text text;
    Update update{kAdamW, 0.1, 0, 0, 0.9, 0.99};
    for (int status : {storycell_model_gradient(nullptr, &text.chunk), storycell_model_gradient(m, nullptr),
                       storycell_model_apply(nullptr, &update), storycell_model_apply(m, nullptr),
                       storycell_model_average(nullptr, 0.5), storycell_model_swap_average(nullptr),
                       storycell_model_read(nullptr, kWeight, 0, &number), storycell_model_read(m, kWeight, 0, nullptr),
                       storycell_model_read(m, kAverage, 0, &number), storycell_model_write(m, kWeight, 0, nullptr),
                       storycell_model_write(nullptr, kWeight, 0, &number), storycell_model_forget(nullptr, kMean),
                       storycell_model_read_state(nullptr, &number, &number),
                       storycell_model_read_state(m, nullptr, &number),
                       storycell_model_write_state(m, 1, &number, nullptr),
                       storycell_model_write_state(nullptr, 1, &number, &number),
                       storycell_model_measure(nullptr, &norm), storycell_model_measure(m, nullptr),
                       storycell_model_measure(m, &norm), storycell_model_read_met(nullptr, &row, &number),
                       storycell_model_read_met(m, nullptr, &number), storycell_model_read_met(m, &row, nullptr),
                       storycell_model_write_met(nullptr, 0, &row, &number),
                       storycell_model_write_met(m, 0, nullptr, &number),
                       storycell_model_write_met(m, 0, &row, nullptr)})
        expect(status == kMissing, "what is missing is told");
    for (int status : {storycell_model_read(m, kKinds, 0, &number), storycell_model_read(m, -1, 0, &number),
                       storycell_model_read(m, kWeight, -1, &number), storycell_model_write(m, kWeight, 99, &number),
                       storycell_model_write(m, kKinds, 0, &number), storycell_model_forget(m, kWeight),
                       storycell_model_forget(m, kKinds), storycell_model_average(m, 1.5),
                       storycell_model_average(m, std::nan("")),
                       storycell_model_write_state(m, -1, &number, &number),
                       storycell_model_write_met(m, -1, &row, &number),
                       storycell_model_write_met(m, 1, &row, &number)})
        expect(status == kBadSize, "what is out of range is told");
    expect(!storycell_model_name(m, -1) && !storycell_model_name(m, 99) && !storycell_model_rows(m, 99), "no such tensor");
    update.method = 9;
    expect(storycell_model_apply(m, &update) == kBadSize, "an unknown optimiser is refused");
    for (double x : {std::nan(""), std::numeric_limits<double>::infinity()})
        for (double Update::*field : {&Update::rate, &Update::decay, &Update::beta1, &Update::beta2}) {
            Update bad_update{kAdamW, 0.1, 0, 0, 0.9, 0.99};
            bad_update.*field = x;
            expect(storycell_model_apply(m, &bad_update) == kBadSize, "a rate that is no number is refused");
        }
    update = {kAdamW, 0.1, -1, 0, 0.9, 0.99};
    expect(storycell_model_apply(m, &update) == kBadSize, "a negative limit is refused");
    storycell_model_free(m);
    storycell_model_free(nullptr);
}

std::vector<float> integers(int64_t n) {  // whose products and sums are exact in any precision and order
    std::vector<float> v(static_cast<size_t>(n));
    for (float& x : v) x = static_cast<float>(std::rand() % 9 - 4);
    return v;
}

// The Gram matrix of columns, from rows that are rounded and packed sixteen at a time; as a plain product has it.
void by_columns(int64_t precision, int64_t m, int64_t n) {
    const int64_t inner = (m + 31) / 32 * 32;
    const auto x = integers(m * n);
    std::vector<float> rows(static_cast<size_t>(inner * n), 0.0f), elements(rows.size() + 16), packed(rows.size());
    std::copy(x.begin(), x.end(), rows.begin());
    expect(!storycell_convert(precision, rows.data(), elements.data(), inner * n, 1), "convert");
    for (int64_t row = 0; row < inner; row += 16)
        kernels()->pack_rows(precision, inner, n, row,
                             reinterpret_cast<char*>(elements.data()) + row * n * (precision ? 2 : 4), packed.data());
    std::vector<float> turned(static_cast<size_t>(n * m)), turned_elements(turned.size()), plain(turned.size());
    for (int64_t r = 0; r < m; ++r)
        for (int64_t c = 0; c < n; ++c) turned[static_cast<size_t>(c * m + r)] = x[static_cast<size_t>(r * n + c)];
    expect(!storycell_convert(precision, turned.data(), turned_elements.data(), n * m, 1), "convert");
    expect(!storycell_pack(precision, m, n, 0, x.data(), n, 1, m, n, plain.data(), 1), "pack");
    std::vector<float> whole(static_cast<size_t>(n * n)), half(whole.size());
    const Product p{precision, n, m, n, turned_elements.data(), m, plain.data(), nullptr, whole.data(), 0};
    expect(!storycell_product(&p, 2), "a plain product");
    std::vector<float> strips(static_cast<size_t>(kernels()->strips_floats(precision, inner, n)));
    kernels()->pack_strips(precision, inner, n, elements.data(), strips.data(), 0, kernels()->panels(inner, n, 0));
    SymmetricProduct s{nullptr, 0, strips.data(), packed.data(), n, inner, half.data()};
    for (int threads : {1, 3}) {
        std::fill(half.begin(), half.end(), -1.0f);
        expect(!symmetric_products({precision, 1, &s}, threads) && half == whole, "is the one by columns");
    }
    s.inner = inner + 16;
    expect(symmetric_products({precision, 1, &s}, 1) == kBadSize, "a product by columns of a ragged inner side is refused");
}

// Two right-hand sides at once give what each gives alone, and a symmetric product what a plain one gives.
void products(int64_t precision, int64_t rows, int64_t m, int64_t n, int64_t other) {
    const auto converted = [&](const std::vector<float>& from) {
        std::vector<float> to(from.size());
        expect(!storycell_convert(precision, from.data(), to.data(), static_cast<int64_t>(from.size()), 1), "convert");
        return to;
    };
    const auto left = converted(integers(rows * m)), one = converted(integers(rows * n));
    const auto two = converted(integers(rows * other));
    const auto size = [](int64_t a, int64_t b) { return std::vector<float>(static_cast<size_t>(a * b)); };
    auto out = size(m, n), out_pair = out, out_two = size(m, other), out_pair_two = out_two;
    auto sums = size(m, 1), sums_pair = sums;
    TransposedProduct a{precision, rows, m, n, left.data(), m, one.data(), n, out.data(), sums.data(),
                        nullptr, nullptr, 0, 0, 0, 0};
    expect(!storycell_transposed(&a, 2), "one product");
    a.right = two.data(), a.right_stride = a.n = other, a.out = out_two.data();
    expect(!storycell_transposed(&a, 2), "the other product");
    a = {precision, rows, m, n, left.data(), m, one.data(), n, out_pair.data(), sums_pair.data(),
         nullptr, nullptr, 0, 0, 0, 0};
    TransposedPair pair{a, two.data(), other, other, out_pair_two.data()};
    expect(!transposed_pair(pair, 3), "both at once");
    expect(out == out_pair && out_two == out_pair_two && sums == sums_pair, "are what each is alone");
    pair.out = nullptr;
    expect(transposed_pair(pair, 1) == kMissing, "a pair without an array is refused");
    pair.out = out_pair_two.data(), pair.n = 17;
    expect(transposed_pair(pair, 1) == kBadSize, "a pair of ragged width is refused");

    const auto x = integers(m * n);  // [m, n]: x x^T
    const auto elements = converted(x);
    auto packed = size(m, n), whole = size(m, m), half = whole;
    expect(!storycell_pack(precision, n, m, 0, x.data(), 1, n, n, m, packed.data(), 1), "pack");
    const Product p{precision, m, n, m, elements.data(), n, packed.data(), nullptr, whole.data(), 0};
    expect(!storycell_product(&p, 2), "a plain product");
    SymmetricProduct s[] = {{elements.data(), n, nullptr, packed.data(), m, n, half.data()},
                            {elements.data(), n, nullptr, packed.data(), m, n, nullptr}};
    expect(!symmetric_products({precision, 1, s}, 3) && half == whole, "is the symmetric one");
    expect(symmetric_products({precision, 2, s}, 1) == kMissing, "a symmetric product without an array is refused");
    s[1].out = half.data(), s[1].n = 15;
    expect(symmetric_products({precision, 2, s}, 1) == kBadSize, "a ragged symmetric product is refused");
    by_columns(precision, m, n);
}

}  // namespace

int model_failures() {
    failures = 0;
    refusals();
    for (int64_t precision : {0, 1}) {
        for (int64_t rows : {1, 7, 400})
            for (int64_t m : {16, 80, 144, 208}) products(precision, rows, m, 48, 16 * (1 + rows % 5));
        for (int64_t cell : {0, 1, 2})
            for (int64_t method : {kAdamW, kSgd, kMuon, kNorMuon})
                for (int64_t ngrams : {0, 4})
                    for (int64_t matches : {0, 3})
                        for (int64_t gate_norm = 0; gate_norm <= (cell == kLstm); ++gate_norm)
                            learning(cell, precision, method, ngrams, matches, gate_norm);
    }
    return failures;
}
