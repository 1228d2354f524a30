// Which rows of the context's table a character meets, besides its embedding; storycell/context.py has it in numpy.
//
// One for each n-gram of 2 to `ngrams` characters that ends with it:
//
//     h = 0;  of the character and those before it, the latest first:  h = (h * kFactor + id + 1) mod kPrime
//
// and after n characters h mod `ngram_rows` is the row of the n-gram. No number passes 2^53, so that JavaScript computes
// the same. And one for the longest match: of all places where the latest characters stood before, the one that agrees
// with the most of them (at most `matches`; the latest of several such). After n characters that agree and are followed
// by c it is row ngram_rows + (n - 1) * characters + c; where fewer than two agree, row ngram_rows.
//
// A boundary ends what a context sees: it and all before it are characters 0, as is everything before a text begins, and
// a 0 agrees with nothing. What a stream remembers is its `past`, the latest character first: kMemory of them with
// matches, else as many as the longest n-gram needs.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace storycell {

constexpr int64_t kLongestNgram = 16, kMostNgramRows = int64_t{1} << 26;
constexpr int64_t kNgramPrime = 2147483647, kNgramFactor = 1999993;
constexpr int64_t kLongestMatch = 64, kMemory = 1024;

struct ContextShape {
    int64_t ngrams = 0, ngram_rows = 0, matches = 0, characters = 0;  // longest n-gram and match; 0: none

    bool any() const { return ngrams || matches; }
    bool fits() const {
        return (!ngrams || (ngrams >= 2 && ngrams <= kLongestNgram && ngram_rows >= 1 && ngram_rows <= kMostNgramRows)) &&
               (!matches || (matches >= 2 && matches <= kLongestMatch));
    }
    int64_t of_ngrams() const { return ngrams ? ngram_rows : 0; }
    int64_t rows() const { return of_ngrams() + matches * characters; }
    int64_t met() const { return (ngrams ? ngrams - 1 : 0) + (matches ? 1 : 0); }  // rows for each character
    int64_t memory() const { return matches ? kMemory : ngrams ? ngrams - 1 : 0; }
};

// A stream's past, and the rows of the characters that come after it one by one. Places where the same two characters
// stand are linked, the latest first: few are compared for each character. Only the first character after `begin` is
// compared with all places, since to link them takes longer, and where text is written step by step there is no second.
class Context {
public:
    explicit Context(const ContextShape& shape)
        : shape_(shape), memory_(shape.memory()), line_(static_cast<size_t>(memory_ + kRoom)) {
    }

    // Goes on after past[memory]; null: after nothing.
    void begin(const int64_t* past) {
        int64_t known = 0;
        while (past && known < memory_ && past[known]) ++known;
        end_ = seen_ = 0;
        is_linked_ = false, is_first_ = true;
        while (known) line_[static_cast<size_t>(end_++)] = static_cast<int32_t>(past[--known]);
    }

    void end(int64_t* past) const {
        for (int64_t n = 0; n < memory_; ++n) past[n] = before(n);
    }

    // The rows [shape.met()] of `id`, which is remembered from here on.
    void meet(int64_t id, int64_t* out) {
        int64_t h = id + 1;
        for (int64_t n = 0; n < shape_.ngrams - 1; ++n) {
            h = (h * kNgramFactor + (id ? before(n) : 0) + 1) % kNgramPrime;
            *out++ = h % shape_.ngram_rows;
        }
        append(static_cast<int32_t>(id));
        if (shape_.matches) *out = shape_.of_ngrams() + longest_match();
    }

private:
    static constexpr int64_t kRoom = 2048;   // characters until the line is moved
    static constexpr int32_t kPairs = 1024;  // pairs of characters, hashed

    ContextShape shape_;
    int64_t memory_, end_ = 0, seen_ = 0;    // the text is line[seen, end), as far as it is remembered
    bool is_linked_ = false, is_first_ = true;
    std::vector<int32_t> line_;
    std::vector<int32_t> latest_, earlier_;  // [pairs], [place]: where a pair ended last, and before that

    int64_t before(int64_t n) const { return end_ - 1 - n >= seen_ ? line_[static_cast<size_t>(end_ - 1 - n)] : 0; }

    void append(int32_t id) {
        if (!memory_) return;
        if (end_ == static_cast<int64_t>(line_.size())) {
            const int64_t first = std::max(seen_, end_ - memory_), count = end_ - first;
            std::memmove(line_.data(), line_.data() + first, static_cast<size_t>(count) * sizeof(int32_t));
            seen_ = 0, end_ = count;
            is_linked_ = false;
        }
        line_[static_cast<size_t>(end_)] = id;
        if (is_linked_) link(end_);
        ++end_;
        if (!id) seen_ = end_;
    }

    void link_all() {
        earlier_.resize(line_.size());
        latest_.assign(kPairs, -1);
        for (int64_t at = seen_ + 1; at < end_; ++at) link(at);
        is_linked_ = true;
    }

    void link(int64_t at) {
        if (at <= seen_) return;
        int32_t& latest = latest_[pair(at)];
        earlier_[static_cast<size_t>(at)] = latest;
        latest = static_cast<int32_t>(at);
    }

    size_t pair(int64_t at) const {
        const auto a = static_cast<uint32_t>(line_[static_cast<size_t>(at - 1)]);
        return (a * 31 + static_cast<uint32_t>(line_[static_cast<size_t>(at)])) % kPairs;
    }

    int64_t longest_match() {
        if (!is_linked_ && !is_first_) link_all();
        is_first_ = false;
        const int32_t *line = line_.data(), t = static_cast<int32_t>(end_ - 1), seen = static_cast<int32_t>(seen_);
        if (t <= seen) return 0;
        const auto most = static_cast<int32_t>(shape_.matches);
        const int32_t first = std::max(seen + 1, t - static_cast<int32_t>(memory_) + most - 1);
        int32_t longest = 1, at = -1;
        const auto before_it = [&](int32_t p) { return is_linked_ ? earlier_[static_cast<size_t>(p)] : p - 1; };
        for (int32_t p = before_it(t); p >= first; p = before_it(p)) {
            if (p - longest < seen || line[p - longest] != line[t - longest]) continue;
            int32_t n = 0;
            while (n < most && p - n >= seen && line[p - n] == line[t - n]) ++n;
            if (n <= longest) continue;
            longest = n, at = p;
            if (n == most) break;
        }
        return at < 0 ? 0 : (longest - 1) * shape_.characters + line[at + 1];
    }
};

// Rows lie all over a table that no cache holds: asked for so many characters ahead, they are there when they are read.
constexpr int64_t kAhead = 8;

// Adds the rows [shape.met()] of a table [rows, width] to the embedding of `id`: to[width].
inline void add_rows(const ContextShape& shape, const int64_t* met, int64_t width, const float* embedding,
                     const float* table, int64_t id, float* to) {
    const float* from = embedding + id * width;
    for (int64_t i = 0; i < width; ++i) to[i] = from[i];
    for (int64_t n = 0; n < shape.met(); ++n) {
        from = table + met[n] * width;
        for (int64_t i = 0; i < width; ++i) to[i] += from[i];
    }
}

}  // namespace storycell
