#include "engine/storycell.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <string_view>

#include "arch/isa.h"
#include "engine/blas.h"
#include "engine/generate.h"
#include "engine/kernels.h"
#include "engine/layout.h"
#include "engine/context.h"
#include "engine/pool.h"
#include "engine/through_time.h"

namespace storycell {
namespace {

std::atomic<const Kernels*> chosen{nullptr};

}  // namespace

const Kernels* kernels() {
    const Kernels* k = chosen.load();
    if (!k) {
        const char* name = std::getenv("STORYCELL_ISA");
        k = name && *name ? kernels_named(name) : best_kernels();
        if (k) chosen.store(k);
    }
    return k;
}

namespace {

constexpr int64_t kGrainOfBlocks = 8;  // fewer are not worth waking a thread

bool size_ok(int64_t n) { return n > 0 && n < (int64_t{1} << 31); }
bool lanes_ok(int64_t n) { return size_ok(n) && n % 16 == 0; }
bool precision_ok(int64_t p) { return p == kFloat32 || p == kBfloat16 || (p == kBlas && sgemm()); }
bool generates_in(int64_t p) { return precision_ok(p) || p == kInt8; }

Status check_characters(const int64_t* ids, int64_t streams, int64_t stream_stride, int64_t steps,
                     int64_t step_stride, int64_t characters) {
    bool bad = false;
    for (int64_t b = 0; b < streams; ++b)
        for (int64_t t = 0; t < steps; ++t) {
            const int64_t id = ids[b * stream_stride + t * step_stride];
            bad |= id < 0 || id >= characters;
        }
    return bad ? kBadCharacter : kOk;
}

bool cell_ok(int64_t cell) { return cell >= 0 && cell < kCellCount; }

Status check(const Recurrence& a, bool backward) {
    const bool rounds_too_much = a.precision == kInt8 && (backward || a.saved);
    if (!cell_ok(a.cell) || !generates_in(a.precision) || rounds_too_much || !size_ok(a.steps) ||
        !size_ok(a.streams) || !lanes_ok(a.units))
        return kBadSize;
    if (!a.packed || !a.hidden || (backward && (!a.saved || !a.grad_initial))) return kMissing;
    if (a.cell == kLstm && (backward ? !a.grad_carry || !a.cell_state : !a.carry && !a.cell_state))
        return kMissing;
    if (a.cell == kGru && (!a.carry || (!backward && !a.reset_bias))) return kMissing;
    if (a.gate_bias) {
        if (a.cell != kLstm || a.real_units < 1 || a.real_units > a.units) return kBadSize;
        if ((a.saved && (!a.normalised || !a.mean_squares)) || (backward && !a.grad_gates)) return kMissing;
    }
    if (backward) return kOk;
    if (!a.ids) return a.projected ? kOk : kMissing;
    if (!a.table) return kMissing;
    return check_characters(a.ids, a.streams, a.ids_stream_stride, a.steps, a.ids_step_stride,
                            a.characters);
}

int64_t blocks_of(int64_t count) { return (count + kBlock - 1) / kBlock; }

int64_t blocks(const Tensors& a) {
    int64_t n = 0;
    for (int64_t i = 0; i < a.tensors; ++i) n += blocks_of(a.tensor[i].count);
    return n;
}

Status check(const Tensors& a, bool updates) {
    if (a.tensors < 0) return kBadSize;
    if (a.tensors && !a.tensor) return kMissing;
    for (int64_t i = 0; i < a.tensors; ++i) {
        const Tensor& t = a.tensor[i];
        if (t.count < 0) return kBadSize;
        if (!t.grad || (updates && (!t.value || !t.mean || !t.square || !t.step))) return kMissing;
    }
    return kOk;
}

Status check(const Generation& a) {
    if (!cell_ok(a.cell) || !generates_in(a.precision) || a.precision == kBlas || !size_ok(a.layers) || !size_ok(a.streams) ||
        !lanes_ok(a.units) || !size_ok(a.characters) || !size_ok(a.length))
        return kBadSize;
    if (!a.layer || !a.packed_output || !a.output_bias || !a.logits || !a.current || !a.random ||
        !a.out || !a.choice)
        return kMissing;
    const ContextShape context{a.ngrams, a.ngram_rows, a.matches, a.characters};
    if (!context.fits()) return kBadSize;
    if (context.any()) {
        if (!lanes_ok(a.embedding)) return kBadSize;
        if (!a.embedding_weight || !a.context_table || !a.past || !a.vectors) return kMissing;
        const int64_t P = context.memory();
        if (const Status bad = check_characters(a.past, a.streams, P, P, 1, a.characters)) return bad;
    }
    for (int64_t l = 0; l < a.layers; ++l) {
        const GenerationLayer& layer = a.layer[l];
        if (!layer.packed_recurrent || !layer.hidden) return kMissing;
        if (l == 0 && !context.any() ? !layer.table : !layer.packed_input || !layer.projected) return kMissing;
        if (a.cell != kRnn && !layer.carry) return kMissing;
        if (a.cell == kGru && !layer.reset_bias) return kMissing;
        if (layer.gate_bias && (a.cell != kLstm || a.real_units < 1 || a.real_units > a.units)) return kBadSize;
    }
    for (int64_t b = 0; b < a.streams; ++b)
        if (!a.choice[b].greedy && !(a.choice[b].temperature > 0)) return kBadSize;
    return check_characters(a.current, a.streams, 1, 1, 1, a.characters);
}

Status check_threads(int threads) {
    if (!kernels()) return kUnknownIsa;
    return threads < 1 || threads > 1024 ? kBadSize : kOk;
}

// Status work(kernels, first, last) over the parts of [0, count).
template <class Work>
Status run(int64_t count, int threads, Work work, int64_t grain = 1) {
    if (const Status bad = check_threads(threads)) return bad;
    const Kernels& k = *kernels();
    return split(count, grain, threads,
                 [&](int64_t first, int64_t last) { return work(k, first, last); });
}

// One kernel over the parts of [0, count).
template <class Arguments>
Status run(RangeKernel<Arguments>* Kernels::*kernel, const Arguments& a, int64_t count, int threads,
           int64_t grain = 1) {
    return run(count, threads, [&](const Kernels& k, int64_t first, int64_t last) {
        return (k.*kernel)(a, first, last);
    }, grain);
}

Status check(const TransposedProduct& a) {
    if (!precision_ok(a.precision) || !size_ok(a.rows) || !lanes_ok(a.m) || !lanes_ok(a.n) ||
        a.left_stride < a.m || a.right_stride < a.n)
        return kBadSize;
    if (!a.left || !a.right || !a.out) return kMissing;
    if (!a.table_grad) return kOk;
    if (!a.ids) return kMissing;
    if (!size_ok(a.streams) || !size_ok(a.characters) || a.rows % a.streams) return kBadSize;
    return check_characters(a.ids, a.streams, a.ids_stream_stride, a.rows / a.streams,
                            a.ids_step_stride, a.characters);
}

}  // namespace

bool multiplies_bf16() {
    const std::string_view name = kernels() ? kernels()->name : "";
    return name == "amx" || name == "avx512bf16";
}

Status transposed_pair(const TransposedPair& a, int threads) {
    if (const Status bad = check(a.one)) return bad;
    if (!a.right || !a.out) return kMissing;
    if (!lanes_ok(a.n) || a.right_stride < a.n) return kBadSize;
    return run(&Kernels::transposed_pair, a, a.one.m / 16, threads);
}

Status symmetric_products(const SymmetricProducts& a, int threads) {
    if (!kernels()) return kUnknownIsa;
    if (!precision_ok(a.precision)) return kBadSize;
    int64_t blocks = 0;
    for (int64_t i = 0; i < a.products; ++i) {
        const SymmetricProduct& p = a.product[i];
        if (!lanes_ok(p.n) || !lanes_ok(p.inner) || (p.strips ? p.inner % 32 : p.left_stride < p.inner)) return kBadSize;
        if (!(p.left || p.strips) || !p.packed || !p.out) return kMissing;
        blocks += kernels()->symmetric_blocks(p.n);
    }
    return run(&Kernels::symmetric, a, blocks, threads);
}

}  // namespace storycell

using namespace storycell;

const char* storycell_isa() { return kernels() ? kernels()->name : ""; }

int storycell_use_isa(const char* name) {
    const Kernels* k = name && *name ? kernels_named(name) : best_kernels();
    if (!k) return kUnknownIsa;
    chosen.store(k);
    return kOk;
}

const char* storycell_blas() { return blas_name(); }

int storycell_use_blas(const char* choice) { return use_blas(choice) ? kOk : kUnknownIsa; }

const char* storycell_layout() { return layout(); }

const char* storycell_explain(int status) {
    switch (status) {
        case kOk: return "all went well";
        case kBadSize: return "a size is out of range for the native kernels";
        case kBadCharacter: return "a character id is outside the vocabulary";
        case kMissing: return "a required array is missing";
        case kNotFinite: return "logits are not finite: nothing can be drawn from them";
        case kUnknownIsa: return "STORYCELL_ISA names kernels that are unknown or cannot run here";
        case kNoMemory: return "there is not enough memory for the native kernels";
        case kOtherStreams:
            return "the carried state is of another number of streams: start from zero states, or set the state";
        case kFailed: return "the native kernels failed for a reason they do not know";
        default: return "the native kernels returned a status they do not know";
    }
}

int storycell_pack(int64_t precision, int64_t inner, int64_t columns, int64_t gates,
                   const float* source, int64_t k_stride, int64_t j_stride, int64_t valid_inner,
                   int64_t valid_columns, void* packed, int threads) {
    if (!generates_in(precision) || !lanes_ok(inner) || !lanes_ok(columns) || gates < 0 ||
        gates > 4 || valid_inner < 0 || valid_columns < 0)
        return kBadSize;
    if (!source || !packed) return kMissing;
    if (!kernels()) return kUnknownIsa;
    return run(kernels()->panels(inner, columns, gates), threads,
               [&](const Kernels& k, int64_t first, int64_t last) {
                   k.pack(precision, inner, columns, gates, source, k_stride, j_stride,
                          valid_inner, valid_columns, packed, first, last);
                   return kOk;
               });
}

int storycell_forward(const Recurrence* a, int threads) {
    if (!a) return kMissing;
    if (const Status bad = check(*a, false)) return bad;
    if (const Status bad = check_threads(threads)) return bad;
    const Kernels& k = *kernels();
    const int64_t gates = kCells[a->cell].gates, panels = k.panels(a->units, a->units, gates);
    return through_time(k.forward, *a, a->steps, choose_grid(k, *a, panels, threads));
}

int storycell_backward(const Recurrence* a, int threads) {
    if (!a) return kMissing;
    if (const Status bad = check(*a, true)) return bad;
    if (const Status bad = check_threads(threads)) return bad;
    const Kernels& k = *kernels();
    const int64_t panels = k.panels(kCells[a->cell].back * a->units, a->units, 0);
    return through_time(k.backward, *a, a->steps + 1, choose_grid(k, *a, panels, threads));
}

int storycell_product(const Product* a, int threads) {
    if (!a) return kMissing;
    if (!generates_in(a->precision) || !size_ok(a->rows) || !lanes_ok(a->inner) ||
        !lanes_ok(a->columns) || a->left_stride < a->inner || a->left_stride % (4 / kElementBytes[a->precision]))
        return kBadSize;
    if (!a->left || !a->packed || !a->out) return kMissing;
    return run(&Kernels::product, *a, a->rows, threads,
               std::max<int64_t>(1, kWorthAThread / (a->inner * a->columns)));
}

int storycell_transposed(const TransposedProduct* a, int threads) {
    if (!a) return kMissing;
    if (const Status bad = check(*a)) return bad;
    return run(&Kernels::transposed, *a, a->m / 16, threads);
}

int storycell_table_gradient(const TableGradient* a, int threads) {
    if (!a) return kMissing;
    if (!cell_ok(a->cell) || !precision_ok(a->precision) || !size_ok(a->steps) ||
        !size_ok(a->streams) || !lanes_ok(a->units) || !size_ok(a->characters))
        return kBadSize;
    if (!a->ids || !a->gate_grads || !a->grad) return kMissing;
    if (const Status bad = check_characters(a->ids, a->streams, a->ids_stream_stride, a->steps,
                                            a->ids_step_stride, a->characters))
        return bad;
    return run(&Kernels::table_gradient, *a, kCells[a->cell].gates * a->units / 16, threads);
}

int storycell_output_loss(const OutputLoss* a, int threads) {
    if (!a) return kMissing;
    if (!precision_ok(a->precision) || !size_ok(a->steps) || !size_ok(a->streams) ||
        !lanes_ok(a->units) || !size_ok(a->characters))
        return kBadSize;
    if (!a->hidden || !a->packed_forward || !a->bias || !a->targets || !a->losses ||
        (a->logit_grads && (!a->packed_backward || !a->grad_hidden)))
        return kMissing;
    if (const Status bad = check_characters(a->targets, a->streams, a->targets_stream_stride,
                                            a->steps, a->targets_step_stride, a->characters))
        return bad;
    return run(&Kernels::output_loss, *a, a->steps * a->streams, threads);
}

int storycell_dropout(const Dropout* a, int threads) {
    if (!a) return kMissing;
    if (!precision_ok(a->precision) || !lanes_ok(a->count) || !lanes_ok(a->period) ||
        !(a->keep > 0 && a->keep <= 1))
        return kBadSize;
    if (!a->from || !a->to) return kMissing;
    return run(&Kernels::dropout, *a, a->count / 16, threads, 4096);
}

int64_t storycell_blocks(int64_t count) { return blocks_of(count); }

int storycell_gradient_squares(const Tensors* a, int threads) {
    if (!a) return kMissing;
    if (const Status bad = check(*a, false)) return bad;
    if (!a->sums) return kMissing;
    return run(&Kernels::gradient_squares, *a, blocks(*a), threads, kGrainOfBlocks);
}

int storycell_scale_gradients(const Tensors* a, int threads) {
    if (!a) return kMissing;
    if (const Status bad = check(*a, false)) return bad;
    return run(&Kernels::scale_gradients, *a, blocks(*a), threads, kGrainOfBlocks);
}

int storycell_adam_step(const Tensors* a, int threads) {
    if (!a) return kMissing;
    if (const Status bad = check(*a, true)) return bad;
    if (const Status bad = check_threads(threads)) return bad;  // before an update is counted
    for (int64_t i = 0; i < a->tensors; ++i) *a->tensor[i].step += 1.0f;
    return run(&Kernels::adam_step, *a, blocks(*a), threads, kGrainOfBlocks);
}

int storycell_generate(const Generation* a, int threads) {
    if (!a) return kMissing;
    if (const Status bad = check(*a)) return bad;
    return run(a->streams, threads, [&](const Kernels& k, int64_t first, int64_t last) {
        return generate_streams(k, *a, first, last);
    });
}

int storycell_convert(int64_t precision, const float* from, void* to, int64_t count, int threads) {
    if (!generates_in(precision) || count < 0 || count % 16) return kBadSize;
    if (!from || !to) return kMissing;
    return run(count / 16, threads, [&](const Kernels& k, int64_t first, int64_t last) {
        k.convert(precision, from + first * 16,
                  static_cast<char*>(to) + first * 16 * kElementBytes[precision], (last - first) * 16);
        return kOk;
    }, 4096);
}

int storycell_widen(int64_t precision, const void* from, float* to, int64_t count, int threads) {
    if (!generates_in(precision) || count < 0 || count % 16) return kBadSize;
    if (!from || !to) return kMissing;
    return run(count / 16, threads, [&](const Kernels& k, int64_t first, int64_t last) {
        k.widen(precision, static_cast<const char*>(from) + first * 16 * kElementBytes[precision],
                to + first * 16, (last - first) * 16);
        return kOk;
    }, 4096);
}
