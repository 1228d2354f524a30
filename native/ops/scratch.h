// Memory for one share of a kernel's work.
#pragma once
#include <cstddef>
#include <cstdint>
#include <new>

namespace {

// Freed with the object; null where there was no memory, which the caller must check. Not cleared.
// Begins at a whole cache line. (Not a std::unique_ptr: arch/simd.h says why.)
class Scratch {
public:
    explicit Scratch(int64_t floats) {
        constexpr uint64_t most = SIZE_MAX / sizeof(float) - kLine;
        if (static_cast<uint64_t>(floats) <= most)
            memory_ = ::operator new(static_cast<size_t>(floats) * sizeof(float) + kLine, std::nothrow);
    }
    ~Scratch() { ::operator delete(memory_); }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;

    float* floats() const {
        if (!memory_) return nullptr;
        return reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(memory_) + kLine - 1) / kLine * kLine);
    }

private:
    static constexpr size_t kLine = 64;
    void* memory_ = nullptr;
};

}  // namespace
