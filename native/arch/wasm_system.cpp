// The calls that the C library makes of a system (WASI), answered here so that a WebAssembly module imports nothing: there
// is no environment, no file is open, and to end the program is a trap.
#include <cstdint>

#define ANSWER extern "C" __attribute__((used))
ANSWER int32_t __imported_wasi_snapshot_preview1_environ_get(int32_t, int32_t) { return 0; }
ANSWER int32_t __imported_wasi_snapshot_preview1_environ_sizes_get(int32_t count, int32_t bytes) {
    *reinterpret_cast<uint32_t*>(count) = *reinterpret_cast<uint32_t*>(bytes) = 0;
    return 0;
}
ANSWER void __imported_wasi_snapshot_preview1_proc_exit(int32_t) { __builtin_trap(); }
constexpr int32_t bad_file = 8;
ANSWER int32_t __imported_wasi_snapshot_preview1_fd_write(int32_t, int32_t, int32_t, int32_t) { return bad_file; }
ANSWER int32_t __imported_wasi_snapshot_preview1_fd_seek(int32_t, int64_t, int32_t, int32_t) { return bad_file; }
ANSWER int32_t __imported_wasi_snapshot_preview1_fd_close(int32_t) { return bad_file; }
