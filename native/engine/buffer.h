// Memory that is asked for once and used again and again, and a sum over some of it.
#pragma once
#include <cstdint>
#include <cstring>
#include <new>
#include <utility>

namespace storycell {

// Grows when asked to and is kept until the end; begins at a whole cache line. Throws std::bad_alloc.
class Buffer {
public:
    Buffer() = default;
    Buffer(Buffer&& other) noexcept { swap(other); }
    Buffer& operator=(Buffer&& other) noexcept { return swap(other), *this; }
    ~Buffer() { ::operator delete(memory_); }

    // At least so many floats, of unspecified value.
    float* room(int64_t floats) {
        if (floats > size_) {
            void* grown = ::operator new(static_cast<size_t>(floats) * sizeof(float) + kLine);
            ::operator delete(memory_);
            memory_ = grown, size_ = floats;
            const auto at = (reinterpret_cast<uintptr_t>(grown) + kLine - 1) / kLine * kLine;
            data_ = reinterpret_cast<float*>(at);
        }
        return data_;
    }
    float* zeros(int64_t floats) {
        room(floats);
        if (floats) std::memset(data_, 0, static_cast<size_t>(floats) * sizeof(float));
        return data_;
    }
    float* data() { return data_; }
    const float* data() const { return data_; }
    int64_t size() const { return size_; }
    void swap(Buffer& other) noexcept {
        std::swap(memory_, other.memory_), std::swap(data_, other.data_), std::swap(size_, other.size_);
    }

private:
    static constexpr size_t kLine = 64;
    void* memory_ = nullptr;
    float* data_ = nullptr;
    int64_t size_ = 0;
};

// The sum of the squares; count: a multiple of 16.
inline float sum_of_squares(const float* numbers, int64_t count) {
    float lanes[16] = {};  // several sums, which the compiler can keep in vectors
    for (int64_t i = 0; i < count; i += 16)
        for (int64_t l = 0; l < 16; ++l) lanes[l] += numbers[i + l] * numbers[i + l];
    for (int64_t half = 8; half; half /= 2)
        for (int64_t l = 0; l < half; ++l) lanes[l] += lanes[l + half];
    return lanes[0];
}

}  // namespace storycell
