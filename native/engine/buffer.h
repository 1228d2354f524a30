// Memory that is asked for once and used again and again.
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

}  // namespace storycell
