#include "tests/scarce_memory.h"

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

namespace {

std::atomic<int> granted{kUnlimited}, refused{0};

void* allocate(size_t bytes) {
    if (granted.load() != kUnlimited && granted.fetch_sub(1) <= 0) {
        granted.store(0);
        ++refused;
        return nullptr;
    }
    return std::malloc(bytes ? bytes : 1);
}

}  // namespace

void grant_allocations(int count) {
    refused.store(0);
    granted.store(count);
}

int refused_allocations() { return refused.load(); }
int granted_allocations() { return granted.load(); }

void* operator new(size_t bytes) {
    if (void* memory = allocate(bytes)) return memory;
    throw std::bad_alloc();
}
void* operator new(size_t bytes, const std::nothrow_t&) noexcept { return allocate(bytes); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { std::free(memory); }
