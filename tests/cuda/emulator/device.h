// SPDX-License-Identifier: Apache-2.0
// What CUDA gives to device code, for g++: qualifiers, built-in variables, intrinsics. Who runs when is
// scheduler.cpp's.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "memory.h"
#include "scheduler.h"
#include "types.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) alignas(n)

// What the emulator itself reads in the middle of a kernel is no access of the kernel.
#define EMULATED_UNSEEN __attribute__((no_sanitize("thread")))
// Atomics of the kernel: for ThreadSanitizer they must stay visible, our own checker is called by hand.
#if defined(TOKENDRAW_EMULATOR_CHECKED)
#define EMULATED_ATOMIC EMULATED_UNSEEN
#else
#define EMULATED_ATOMIC
#endif
// Where the call stands in the kernel.
#define EMULATED_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

namespace emulated {

EMULATED_UNSEEN inline uint3 thread_index() { return current->index; }
EMULATED_UNSEEN inline uint3 block_index() { return current->block->index; }
uint3 block_dimensions();
uint3 grid_dimensions();

/// threadIdx and its like: objects without content, read by asking the scheduler. They are no macros because members of
/// structs have the same names.
template <uint3 (*kValue)(), unsigned uint3::* kMember>
struct BuiltInMember {
  operator unsigned() const { return kValue().*kMember; }
};
template <uint3 (*kValue)()>
struct BuiltIn {
  BuiltInMember<kValue, &uint3::x> x;
  BuiltInMember<kValue, &uint3::y> y;
  BuiltInMember<kValue, &uint3::z> z;
  operator uint3() const { return kValue(); }
  operator dim3() const { return kValue(); }
};

template <class To, class From>
EMULATED_UNSEEN inline To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From), "the size is kept");
  To to;
  __builtin_memcpy(&to, &from, sizeof to);
  return to;
}

template <class T>
EMULATED_UNSEEN inline std::uint64_t packed(T value) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8, "a register");
  std::uint64_t bits = 0;
  __builtin_memcpy(&bits, &value, sizeof value);
  return bits;
}

template <class T>
EMULATED_UNSEEN inline T unpacked(std::uint64_t bits) {
  T value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

/// The type of an argument that plays no part in deducing T.
template <class T>
struct Plain {
  using type = T;
};
template <class T>
using PlainType = typename Plain<T>::type;

template <class T, class... Allowed>
constexpr bool is_one_of = (std::is_same_v<T, Allowed> || ...);

}  // namespace emulated

constexpr emulated::BuiltIn<emulated::thread_index> threadIdx{};
constexpr emulated::BuiltIn<emulated::block_index> blockIdx{};
constexpr emulated::BuiltIn<emulated::block_dimensions> blockDim{};
constexpr emulated::BuiltIn<emulated::grid_dimensions> gridDim{};
constexpr int warpSize = 32;

// ---- barriers ----

inline void __syncthreads(EMULATED_HERE) { emulated::block_barrier(false, {file, line}); }
inline int __syncthreads_count(int predicate, EMULATED_HERE) {
  return static_cast<int>(emulated::block_barrier(predicate != 0, {file, line}));
}
inline int __syncthreads_or(int predicate, EMULATED_HERE) {
  return emulated::block_barrier(predicate != 0, {file, line}) != 0;
}
inline int __syncthreads_and(int predicate, EMULATED_HERE) {
  return emulated::block_barrier(predicate == 0, {file, line}) == 0;
}
inline void __syncwarp(unsigned mask = 0xffffffffu, EMULATED_HERE) {
  emulated::collective(emulated::Collective::kSyncwarp, mask, 0, 0, {file, line});
}
inline void __threadfence() { emulated::fence(); }
inline void __threadfence_block() { emulated::fence_in_block(); }
inline void __threadfence_system() { emulated::fence(); }
inline void __nanosleep(unsigned) { emulated::yield(); }
[[noreturn]] inline void __trap(EMULATED_HERE) { emulated::fail_text("__trap() was called", {file, line}); }

// ---- shuffles, votes, matches, reductions ----

namespace emulated {

template <class T>
EMULATED_UNSEEN inline T shuffle(unsigned mask, T value, unsigned source, int width, Site site) {
  if (width < 1 || width > 32 || (width & (width - 1)) != 0)
    fail_text("the width of a shuffle is a power of two", site);
  return unpacked<T>(collective(Collective::kShuffle, mask, packed(value), source, site));
}
EMULATED_UNSEEN inline unsigned lane() { return current->lane; }
inline unsigned segment(int width) { return lane() & ~static_cast<unsigned>(width - 1); }

template <class T>
inline T reduced(Collective kind, unsigned mask, T value, Site site) {
  static_assert(is_one_of<T, int, unsigned>, "__reduce_*_sync takes int or unsigned");
  return unpacked<T>(collective(kind, mask, packed(value), 0, site));
}

}  // namespace emulated

template <class T>
inline T __shfl_sync(unsigned mask, T value, int source, int width = 32, EMULATED_HERE) {
  const unsigned inside = static_cast<unsigned>(source) & static_cast<unsigned>(width - 1);
  return emulated::shuffle(mask, value, emulated::segment(width) + inside, width, {file, line});
}
template <class T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, EMULATED_HERE) {
  const unsigned lane = emulated::lane();
  const unsigned source = lane - emulated::segment(width) < delta ? lane : lane - delta;
  return emulated::shuffle(mask, value, source, width, {file, line});
}
template <class T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, EMULATED_HERE) {
  const unsigned lane = emulated::lane();
  const bool is_inside = lane - emulated::segment(width) + delta < static_cast<unsigned>(width);
  return emulated::shuffle(mask, value, is_inside ? lane + delta : lane, width, {file, line});
}
template <class T>
inline T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32, EMULATED_HERE) {
  const unsigned lane = emulated::lane();
  const unsigned source = lane ^ static_cast<unsigned>(lanes);
  const bool is_later = source >= emulated::segment(width) + static_cast<unsigned>(width);
  return emulated::shuffle(mask, value, is_later ? lane : source, width, {file, line});
}

inline unsigned __ballot_sync(unsigned mask, int predicate, EMULATED_HERE) {
  return static_cast<unsigned>(
      emulated::collective(emulated::Collective::kBallot, mask, predicate != 0, 0, {file, line}));
}
inline int __any_sync(unsigned mask, int predicate, EMULATED_HERE) {
  return __ballot_sync(mask, predicate, file, line) != 0;
}
inline int __all_sync(unsigned mask, int predicate, EMULATED_HERE) {
  return __ballot_sync(mask, predicate, file, line) == mask;
}
/// Any subset of a warp that holds the caller may be converged; the emulator's threads are always alone.
inline unsigned __activemask() { return 1u << emulated::lane(); }

template <class T>
inline unsigned __match_any_sync(unsigned mask, T value, EMULATED_HERE) {
  return static_cast<unsigned>(
      emulated::collective(emulated::Collective::kMatchAny, mask, emulated::packed(value), 0, {file, line}));
}
template <class T>
inline unsigned __match_all_sync(unsigned mask, T value, int* predicate, EMULATED_HERE) {
  const auto matched = static_cast<unsigned>(
      emulated::collective(emulated::Collective::kMatchAll, mask, emulated::packed(value), 0, {file, line}));
  *predicate = matched != 0;
  return matched;
}

template <class T>
inline T __reduce_add_sync(unsigned mask, T value, EMULATED_HERE) {
  return emulated::reduced(emulated::Collective::kAdd, mask, value, {file, line});
}
template <class T>
inline T __reduce_min_sync(unsigned mask, T value, EMULATED_HERE) {
  constexpr auto kind = std::is_signed_v<T> ? emulated::Collective::kMinSigned : emulated::Collective::kMinUnsigned;
  return emulated::reduced(kind, mask, value, {file, line});
}
template <class T>
inline T __reduce_max_sync(unsigned mask, T value, EMULATED_HERE) {
  constexpr auto kind = std::is_signed_v<T> ? emulated::Collective::kMaxSigned : emulated::Collective::kMaxUnsigned;
  return emulated::reduced(kind, mask, value, {file, line});
}
inline unsigned __reduce_and_sync(unsigned mask, unsigned value, EMULATED_HERE) {
  return emulated::reduced(emulated::Collective::kAnd, mask, value, {file, line});
}
inline unsigned __reduce_or_sync(unsigned mask, unsigned value, EMULATED_HERE) {
  return emulated::reduced(emulated::Collective::kOr, mask, value, {file, line});
}
inline unsigned __reduce_xor_sync(unsigned mask, unsigned value, EMULATED_HERE) {
  return emulated::reduced(emulated::Collective::kXor, mask, value, {file, line});
}

// ---- atomics: relaxed, as CUDA's; only the types that CUDA has ----

namespace emulated {

template <class T, class Change>
EMULATED_ATOMIC inline T change_atomically(T* address, Site site, Change change) {
  atomic_access(address, sizeof(T), AtomicKind::kChange, site);
  T old;
  __atomic_load(address, &old, __ATOMIC_RELAXED);
  for (;;) {
    T desired = change(old);
    if (__atomic_compare_exchange(address, &old, &desired, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) return old;
  }
}

}  // namespace emulated

#define EMULATED_ATOMIC_FUNCTION(name, expression, ...)                                                         \
  template <class T>                                                                                            \
  inline T name(T* address, emulated::PlainType<T> value, EMULATED_HERE) {                                      \
    static_assert(emulated::is_one_of<T, __VA_ARGS__>, "CUDA has no " #name " for this type");                  \
    return emulated::change_atomically(address, {file, line}, [value]([[maybe_unused]] T old) EMULATED_ATOMIC { \
      return static_cast<T>(expression);                                                                        \
    });                                                                                                         \
  }

EMULATED_ATOMIC_FUNCTION(atomicAdd, old + value, int, unsigned, unsigned long long, float, double)
EMULATED_ATOMIC_FUNCTION(atomicSub, old - value, int, unsigned)
EMULATED_ATOMIC_FUNCTION(atomicExch, value, int, unsigned, unsigned long long, float)
EMULATED_ATOMIC_FUNCTION(atomicMin, value < old ? value : old, int, unsigned, long long, unsigned long long)
EMULATED_ATOMIC_FUNCTION(atomicMax, value > old ? value : old, int, unsigned, long long, unsigned long long)
EMULATED_ATOMIC_FUNCTION(atomicAnd, old& value, int, unsigned, unsigned long long)
EMULATED_ATOMIC_FUNCTION(atomicOr, old | value, int, unsigned, unsigned long long)
EMULATED_ATOMIC_FUNCTION(atomicXor, old ^ value, int, unsigned, unsigned long long)
EMULATED_ATOMIC_FUNCTION(atomicInc, old >= value ? 0u : old + 1u, unsigned)
EMULATED_ATOMIC_FUNCTION(atomicDec, old == 0u || old > value ? value : old - 1u, unsigned)

#undef EMULATED_ATOMIC_FUNCTION

template <class T>
inline T atomicCAS(T* address, emulated::PlainType<T> expected, emulated::PlainType<T> value, EMULATED_HERE) {
  static_assert(emulated::is_one_of<T, int, unsigned, unsigned long long, unsigned short>,
                "CUDA has no atomicCAS for this type");
  return emulated::change_atomically(
      address, {file, line}, [expected, value](T old) EMULATED_ATOMIC { return old == expected ? value : old; });
}

namespace emulated {

EMULATED_ATOMIC inline std::uint32_t load_acquire(const std::uint32_t* address, EMULATED_HERE) {
  yield();  // it may wait in a loop for another thread
  atomic_access(address, sizeof *address, AtomicKind::kLoadAcquire, {file, line});
  return __atomic_load_n(address, __ATOMIC_ACQUIRE);
}
EMULATED_ATOMIC inline void store_release(std::uint32_t* address, std::uint32_t value, EMULATED_HERE) {
  atomic_access(address, sizeof *address, AtomicKind::kStoreRelease, {file, line});
  __atomic_store_n(address, value, __ATOMIC_RELEASE);
}

// ---- shared memory and clusters ----

template <class Type>
inline Type& shared_variable(const void* key) {
  static_assert(std::is_trivially_default_constructible_v<Type>, "shared memory is not initialised");
  return *static_cast<Type*>(shared_variable(key, sizeof(Type), alignof(Type)));
}
template <class Type>
inline Type* dynamic_shared() {
  static_assert(alignof(Type) <= 16, "dynamic shared memory is aligned to 16 bytes");
  return static_cast<Type*>(dynamic_shared_memory());
}

EMULATED_UNSEEN inline unsigned cluster_rank() { return current->block->rank; }
unsigned cluster_size();
inline void cluster_arrive(EMULATED_HERE) { arrive_at_cluster({file, line}); }
inline void cluster_wait(EMULATED_HERE) { wait_for_cluster({file, line}); }
inline void cluster_sync(EMULATED_HERE) {
  arrive_at_cluster({file, line});
  wait_for_cluster({file, line});
}
template <class Type>
inline Type* cluster_map(Type* pointer, unsigned rank, EMULATED_HERE) {
  return static_cast<Type*>(shared_of_rank(const_cast<std::remove_cv_t<Type>*>(pointer), rank, {file, line}));
}
inline void named_barrier_sync(int id, int threads, EMULATED_HERE) { named_barrier(id, threads, {file, line}); }

}  // namespace emulated

// ---- loads and stores with a hint for the caches, which are not emulated ----

namespace emulated {
EMULATED_UNSEEN inline void check_alignment(const void* address, std::size_t alignment, Site site) {
  if (reinterpret_cast<std::uintptr_t>(address) % alignment != 0) fail_misaligned(alignment, site);
}
}  // namespace emulated

#define EMULATED_LOAD(name)                                       \
  template <class T>                                              \
  inline T name(const T* address, EMULATED_HERE) {                \
    emulated::check_alignment(address, alignof(T), {file, line}); \
    return *address;                                              \
  }
#define EMULATED_STORE(name)                                                  \
  template <class T>                                                          \
  inline void name(T* address, emulated::PlainType<T> value, EMULATED_HERE) { \
    emulated::check_alignment(address, alignof(T), {file, line});             \
    *address = value;                                                         \
  }
EMULATED_LOAD(__ldg)
EMULATED_LOAD(__ldca)
EMULATED_LOAD(__ldcg)
EMULATED_LOAD(__ldcs)
EMULATED_LOAD(__ldlu)
EMULATED_LOAD(__ldcv)
EMULATED_STORE(__stwb)
EMULATED_STORE(__stcg)
EMULATED_STORE(__stcs)
EMULATED_STORE(__stwt)
#undef EMULATED_LOAD
#undef EMULATED_STORE

// ---- arithmetic; compiled with -ffp-contract=off, so that these round as they say ----

inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline float __fmaf_rn(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __dsqrt_rn(double a) { return std::sqrt(a); }
inline double __fma_rn(double a, double b, double c) { return __builtin_fma(a, b, c); }
inline float __saturatef(float a) { return a > 0.0f ? (a < 1.0f ? a : 1.0f) : 0.0f; }

inline unsigned __float_as_uint(float a) { return emulated::bits_as<unsigned>(a); }
inline int __float_as_int(float a) { return emulated::bits_as<int>(a); }
inline float __uint_as_float(unsigned a) { return emulated::bits_as<float>(a); }
inline float __int_as_float(int a) { return emulated::bits_as<float>(a); }
inline long long __double_as_longlong(double a) { return emulated::bits_as<long long>(a); }
inline double __longlong_as_double(long long a) { return emulated::bits_as<double>(a); }

inline int __popc(unsigned a) { return __builtin_popcount(a); }
inline int __popcll(unsigned long long a) { return __builtin_popcountll(a); }
inline int __clz(int a) { return a == 0 ? 32 : __builtin_clz(static_cast<unsigned>(a)); }
inline int __clzll(long long a) { return a == 0 ? 64 : __builtin_clzll(static_cast<unsigned long long>(a)); }
inline int __ffs(int a) { return __builtin_ffs(a); }
inline int __ffsll(long long a) { return __builtin_ffsll(a); }
inline unsigned __brev(unsigned a) {
  unsigned reversed = 0;
  for (int i = 0; i < 32; ++i) reversed |= (a >> i & 1u) << (31 - i);
  return reversed;
}
inline unsigned long long __brevll(unsigned long long a) {
  const auto low = static_cast<unsigned long long>(__brev(static_cast<unsigned>(a)));
  return low << 32 | __brev(static_cast<unsigned>(a >> 32));
}
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>(static_cast<unsigned long long>(a) * b >> 32);
}
inline int __mulhi(int a, int b) { return static_cast<int>(static_cast<long long>(a) * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<unsigned long long>(static_cast<Wide>(a) * b >> 64);
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  const unsigned long long both = static_cast<unsigned long long>(high) << 32 | low;
  return static_cast<unsigned>(both << (shift & 31u) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  const unsigned long long both = static_cast<unsigned long long>(high) << 32 | low;
  return static_cast<unsigned>(both >> (shift & 31u));
}
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
  const unsigned long long both = static_cast<unsigned long long>(b) << 32 | a;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) {
    const unsigned chosen = selector >> 4 * i & 0xfu;
    unsigned byte = static_cast<unsigned>(both >> 8 * (chosen & 7u)) & 0xffu;
    if ((chosen & 8u) != 0) byte = (byte & 0x80u) != 0 ? 0xffu : 0u;
    result |= byte << 8 * i;
  }
  return result;
}

inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
inline unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }
inline unsigned max(unsigned a, unsigned b) { return a > b ? a : b; }
inline long min(long a, long b) { return a < b ? a : b; }
inline long max(long a, long b) { return a > b ? a : b; }
inline unsigned long min(unsigned long a, unsigned long b) { return a < b ? a : b; }
inline unsigned long max(unsigned long a, unsigned long b) { return a > b ? a : b; }
inline long long min(long long a, long long b) { return a < b ? a : b; }
inline long long max(long long a, long long b) { return a > b ? a : b; }
inline unsigned long long min(unsigned long long a, unsigned long long b) { return a < b ? a : b; }
inline unsigned long long max(unsigned long long a, unsigned long long b) { return a > b ? a : b; }
inline float min(float a, float b) { return std::fmin(a, b); }
inline float max(float a, float b) { return std::fmax(a, b); }
