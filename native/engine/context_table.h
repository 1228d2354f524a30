// The context's table of a model that learns: every character adds the rows that it meets (context.h) to the embedding.
// Only rows that a chunk met have a gradient, and only they are moved, by Adagrad (Duchi, Hazan & Singer 2011,
// https://jmlr.org/papers/v12/duchi11a.html) with one sum for each row: rows that are met rarely keep their high rate.
//
//     s <- s + mean of gradient^2
//     row <- row - rate kRate gradient / sqrt(s)
//
// A row without a gradient does not move by these lines, so leaving it out changes nothing. Results do not depend on the
// number of threads.
#pragma once
#include <vector>

#include "engine/arguments.h"
#include "engine/buffer.h"
#include "engine/context.h"

namespace storycell {

class ContextTable {
public:
    static constexpr double kRate = 50.0;  // of the learning rate; LOG.md has others

    // With neither n-grams nor matches there is none, and nothing else may be called.
    ContextTable(const ContextShape& shape, int64_t columns, int64_t width);

    const ContextShape shape;
    const int64_t rows, columns, width;  // width: columns in whole lanes
    Buffer weight, sum, average;         // [rows, width]; sum: [rows]
    std::vector<int64_t> past;           // [B, memory]: what is carried to the next chunk

    // Looks up a chunk [B, T]: to[T*B, width] = rows of `embedding` [V, width] and of the table.
    Status look_up(int64_t streams, int64_t steps, const int64_t* ids, const uint8_t* resets, bool carries,
                   const float* embedding, float* to, int threads);
    // The gradient [T*B, width] of what `look_up` gave, to that of the rows it met and of `embedding` [V, width].
    Status spread(const float* gradient, int64_t characters, float* embedding, int threads);
    Status squares(double& all_squares, int threads);
    void dense_gradient(float* to) const;  // [rows, width]
    // The rows that have a gradient, in rising order, and their gradients [met, columns], out and in.
    int64_t met_rows() const { return static_cast<int64_t>(met.size()); }
    void read_met(int64_t* rows, float* gradients) const;
    void write_met(int64_t count, const int64_t* rows, const float* gradients);
    // One step for the rows that have a gradient; `descends`: by the gradient itself, without Adagrad.
    Status move(double factor, double rate, bool descends, int threads);
    void carry_on() { past.swap(next_past); }

private:
    int64_t B = 0, T = 0;
    const int64_t* ids_ = nullptr;
    std::vector<int32_t> slot;   // [rows]: place among `met`, or -1
    std::vector<int64_t> here;   // [B, T, met]: rows
    std::vector<int32_t> places; // [T*B, met]: slots
    std::vector<int64_t> met;    // rows, in the order in which they were met
    std::vector<int64_t> next_past;
    std::vector<double> sums;
    Buffer gradient;             // [met, width]
};

}  // namespace storycell
