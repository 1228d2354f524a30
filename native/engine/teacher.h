// What an n-gram of the training text expects after each context, as targets to learn from beside the characters that
// follow (Hinton, Vinyals & Dean 2015, arXiv:1503.02531, have targets from another model). A context is the last 0 to
// `order` characters, never beyond a boundary. Counted are all places of the text, and the place that is being learnt is
// left out, so that a teacher never tells what only that place says:
//
//     p(w | u) = (c(u w) - D(c(u w))) / c(u) + left(u) p(w | u without its first character)
//
// where D discounts counts of 1, 2 and more (absolute discounting: Ney, Essen & Kneser 1994), left(u) is the mass that the
// discounts took away. What u of no characters leaves, or any u once less than a thousandth is left, goes to all
// characters alike. Contexts met once have nothing left without that place, and are not kept.
#pragma once
#include <vector>

#include "engine/storycell.h"

namespace storycell {

class Teacher {
public:
    static constexpr int64_t kLongest = 16;

    // ids [count] below `characters`; throws std::bad_alloc.
    Teacher(const uint16_t* ids, int64_t count, int64_t characters, int64_t order);

    // Of `streams` rows [before + steps + 1] of ids the targets [streams, steps, characters] of all but the first
    // before + 1: probabilities of what stands at each place, after what stands before it in the row.
    Status teach(int64_t streams, int64_t steps, int64_t before, const int64_t* ids, float* to, int threads) const;

    const int64_t characters, order;

private:
    struct Entry {          // what followed a context
        uint32_t count;
        int32_t after;      // the context that ends with it, or -1
        uint16_t character;
    };
    struct Node {           // a context
        int64_t first;      // its entries, the most frequent first
        int64_t entries;
        float total, left;  // of counts; of discounts
    };
    std::vector<Node> nodes_;  // the first: no characters
    std::vector<Entry> entries_;

    int32_t count(const uint16_t* ids, int64_t end, uint32_t* places, uint32_t* spare, int64_t n, int64_t depth,
                  std::vector<int64_t>& seen);
    const Entry* find(int32_t node, int64_t character) const;
    void predict(const int32_t* contexts, const Entry* const* owns, int64_t target, float* to) const;
};

}  // namespace storycell

// Null where a size is out of range, an id is not below `characters`, or there is no memory.
STORYCELL_API storycell::Teacher* storycell_teacher_create(const uint16_t* ids, int64_t count, int64_t characters,
                                                           int64_t order);
STORYCELL_API void storycell_teacher_free(storycell::Teacher* teacher);
STORYCELL_API int storycell_teacher_teach(const storycell::Teacher* teacher, int64_t streams, int64_t steps,
                                          int64_t before, const int64_t* ids, float* to, int threads);
