#include "engine/teacher.h"

#include <algorithm>

#include "engine/guarded.h"
#include "engine/pool.h"

namespace storycell {
namespace {

constexpr int64_t kMost = int64_t{1} << 31, kMostCharacters = 1 << 16;
constexpr float kDiscounts[] = {0, 0.9f, 1.6f, 2.5f};  // LOG.md has others
constexpr float kLeast = 1.0f / 1024;                 // of the mass that is still shared out by shorter contexts

float discount(uint32_t count) { return kDiscounts[count < 3 ? count : 3]; }

}  // namespace

Teacher::Teacher(const uint16_t* ids, int64_t count, int64_t characters, int64_t order)
    : characters(characters), order(order) {
    std::vector<uint32_t> places(static_cast<size_t>(count)), spare(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i) places[static_cast<size_t>(i)] = static_cast<uint32_t>(i);
    std::vector<int64_t> seen(static_cast<size_t>(characters), 0);
    this->count(ids, count, places.data(), spare.data(), count, 0, seen);
}

// The context of `depth` characters that stands before these places, and all that begin with it; its number. The places
// are sorted by what stands there, `seen` is left zero.
int32_t Teacher::count(const uint16_t* ids, int64_t end, uint32_t* places, uint32_t* spare, int64_t n, int64_t depth,
                       std::vector<int64_t>& seen) {
    const auto node = static_cast<int32_t>(nodes_.size());
    const auto first = static_cast<int64_t>(entries_.size());
    for (int64_t i = 0; i < n; ++i)
        if (!seen[ids[places[i]]]++) entries_.push_back({0, -1, ids[places[i]]});
    const auto last = static_cast<int64_t>(entries_.size());
    for (int64_t e = first; e < last; ++e) entries_[e].count = static_cast<uint32_t>(seen[entries_[e].character]);
    std::sort(entries_.begin() + first, entries_.begin() + last, [](const Entry& a, const Entry& b) {
        return a.count != b.count ? a.count > b.count : a.character < b.character;
    });
    float left = 0;
    int64_t before = 0;
    for (int64_t e = first; e < last; ++e) {
        int64_t& at = seen[entries_[e].character];
        left += discount(entries_[e].count);
        std::swap(at, before), before += at;  // from a count to where its places begin
    }
    nodes_.push_back({first, last - first, static_cast<float>(n), left});
    if (depth < order) {
        for (int64_t i = 0; i < n; ++i) spare[seen[ids[places[i]]]++] = places[i];
        std::copy_n(spare, n, places);
    }
    for (int64_t e = first; e < last; ++e) seen[entries_[e].character] = 0;
    for (int64_t e = first, from = 0; e < last && depth < order; ++e) {
        const uint16_t character = entries_[e].character;
        const auto here = static_cast<int64_t>(entries_[e].count);
        int64_t kept = 0;  // what stands behind them
        for (int64_t i = from; i < from + here; ++i)
            if (places[i] + 1 < end) places[from + kept++] = places[i] + 1;
        if (kept > 1 && (character || !depth)) {
            const int32_t after = count(ids, end, places + from, spare + from, kept, depth + 1, seen);
            entries_[e].after = after;
        }
        from += here;
    }
    return node;
}

const Teacher::Entry* Teacher::find(int32_t node, int64_t character) const {
    const Node& u = nodes_[node];
    for (const Entry *e = entries_.data() + u.first, *last = e + u.entries; e < last; ++e)
        if (e->character == character) return e;
    return nullptr;
}

// to[characters] after the contexts of 0 to `order` characters (-1: not known); `target` stands there, whose entry after
// each of them is `own`, or null.
void Teacher::predict(const int32_t* contexts, const Entry* const* owns, int64_t target, float* to) const {
    std::fill_n(to, characters, 0.0f);
    float weight = 1;
    for (int64_t depth = order; depth >= 0 && weight > kLeast; --depth) {
        if (contexts[depth] < 0) continue;
        const Node& u = nodes_[contexts[depth]];
        const Entry* own = owns[depth];
        const float total = u.total - (own ? 1 : 0);
        if (total <= 0) continue;
        const float by = weight / total;
        for (const Entry *e = entries_.data() + u.first, *last = e + u.entries; e < last; ++e)
            to[e->character] += by * (static_cast<float>(e->count) - discount(e->count));
        float left = u.left;
        if (own) {
            const float less = discount(own->count - 1), now = discount(own->count);
            left += less - now;
            to[target] += by * (now - 1 - less);
        }
        weight *= left / total;
    }
    for (int64_t c = 0; c < characters; ++c) to[c] += weight / static_cast<float>(characters);
}

Status Teacher::teach(int64_t streams, int64_t steps, int64_t before, const int64_t* ids, float* to,
                      int threads) const {
    const int64_t width = before + steps + 1;
    for (int64_t i = 0; i < streams * width; ++i)
        if (ids[i] < 0 || ids[i] >= characters) return kBadCharacter;
    return split(streams, 1, threads, [&](int64_t first, int64_t last) {
        for (int64_t b = first; b < last; ++b) {
            const int64_t* row = ids + b * width;
            int32_t contexts[kLongest + 1];
            const Entry* entries[kLongest + 1];
            std::fill_n(contexts, kLongest + 1, -1);
            contexts[0] = 0;
            for (int64_t i = 0; i < width; ++i) {
                for (int64_t depth = 0; depth <= order; ++depth)
                    entries[depth] = contexts[depth] < 0 ? nullptr : find(contexts[depth], row[i]);
                if (i > before) predict(contexts, entries, row[i], to + (b * steps + i - before - 1) * characters);
                for (int64_t depth = order; depth > 0; --depth)  // the longer ones from the shorter ones before
                    contexts[depth] = entries[depth - 1] ? entries[depth - 1]->after : -1;
            }
        }
        return kOk;
    });
}

}  // namespace storycell

using namespace storycell;

Teacher* storycell_teacher_create(const uint16_t* ids, int64_t count, int64_t characters, int64_t order) {
    if (!ids || count < 1 || count >= kMost || characters < 1 || characters > kMostCharacters || order < 0 ||
        order > Teacher::kLongest)
        return nullptr;
    for (int64_t i = 0; i < count; ++i)
        if (ids[i] >= characters) return nullptr;
    Teacher* made = nullptr;
    guarded([&] {
        made = new Teacher(ids, count, characters, order);
        return kOk;
    });
    return made;
}

void storycell_teacher_free(Teacher* teacher) { delete teacher; }

int storycell_teacher_teach(const Teacher* teacher, int64_t streams, int64_t steps, int64_t before, const int64_t* ids,
                            float* to, int threads) {
    if (!teacher || !ids || !to) return kMissing;
    if (streams < 1 || steps < 1 || before < 0 || before >= kMost || steps >= kMost || streams >= kMost) return kBadSize;
    return guarded([&] { return teacher->teach(streams, steps, before, ids, to, threads); });
}
