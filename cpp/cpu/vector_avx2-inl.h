// SPDX-License-Identifier: Apache-2.0
// The vector type of AVX2 + FMA + F16C: eight floats.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "core/arithmetic.h"
#include "core/half.h"

namespace tokendraw::cpu {
namespace {

struct Vector {
  __m256 v;
  Vector() = default;
  explicit Vector(float x) : v(_mm256_set1_ps(x)) {}
  explicit Vector(__m256 x) : v(x) {}
};
struct Mask {
  __m256 v;
};
using Doubles = double __attribute__((vector_size(32)));
inline constexpr int kWidth = 8;

using tokendraw::fma;
using tokendraw::larger;
using tokendraw::power_of_two_field;

TOKENDRAW_INLINE Vector operator+(Vector a, Vector b) { return Vector(_mm256_add_ps(a.v, b.v)); }
TOKENDRAW_INLINE Vector operator-(Vector a, Vector b) { return Vector(_mm256_sub_ps(a.v, b.v)); }
TOKENDRAW_INLINE Vector operator*(Vector a, Vector b) { return Vector(_mm256_mul_ps(a.v, b.v)); }
TOKENDRAW_INLINE Vector fma(Vector a, Vector b, Vector c) { return Vector(_mm256_fmadd_ps(a.v, b.v, c.v)); }
TOKENDRAW_INLINE Vector larger(Vector a, Vector b) { return Vector(_mm256_max_ps(a.v, b.v)); }
TOKENDRAW_INLINE Vector power_of_two_field(Vector shifted) {
  return Vector(_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(shifted.v), 23)));
}

TOKENDRAW_INLINE Vector load(const float* from) { return Vector(_mm256_loadu_ps(from)); }
TOKENDRAW_INLINE Vector load(const double* from) {
  return Vector(_mm256_set_m128(_mm256_cvtpd_ps(_mm256_loadu_pd(from + 4)), _mm256_cvtpd_ps(_mm256_loadu_pd(from))));
}
TOKENDRAW_INLINE Vector load(const Float16* from) {
  return Vector(_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
}
TOKENDRAW_INLINE Vector load(const Bfloat16* from) {
  const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  return Vector(_mm256_castsi256_ps(_mm256_slli_epi32(wide, 16)));
}
TOKENDRAW_INLINE Doubles load_doubles(const float* from) { return _mm256_cvtps_pd(_mm_loadu_ps(from)); }
TOKENDRAW_INLINE void store(float* to, Vector a) { _mm256_storeu_ps(to, a.v); }
TOKENDRAW_INLINE void store(double* to, Vector a) {
  _mm256_storeu_pd(to, _mm256_cvtps_pd(_mm256_castps256_ps128(a.v)));
  _mm256_storeu_pd(to + 4, _mm256_cvtps_pd(_mm256_extractf128_ps(a.v, 1)));
}
TOKENDRAW_INLINE void store(Float16* to, Vector a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
/// Of numbers: a NaN may become anything.
TOKENDRAW_INLINE void store(Bfloat16* to, Vector a) {
  const __m256i pattern = _mm256_castps_si256(a.v);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(pattern, 16), _mm256_set1_epi32(1));
  const __m256i rounding = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
  const __m256i halves = _mm256_srli_epi32(_mm256_add_epi32(pattern, rounding), 16);
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(halves, halves), 0x08);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_castsi256_si128(packed));
}
/// An aligned store that leaves the caches alone; others see it after finish_stream.
TOKENDRAW_INLINE void stream(float* to, Vector a) { _mm256_stream_ps(to, a.v); }
TOKENDRAW_INLINE void finish_stream() { _mm_sfence(); }

TOKENDRAW_INLINE Mask not_at_most(Vector a, Vector b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_NLE_UQ)}; }
TOKENDRAW_INLINE Mask greater_equal(Vector a, Vector b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_GE_OQ)}; }
TOKENDRAW_INLINE Mask unordered(Vector a, Vector b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_UNORD_Q)}; }
TOKENDRAW_INLINE Mask no_lanes() { return {_mm256_setzero_ps()}; }
TOKENDRAW_INLINE Mask either(Mask a, Mask b) { return {_mm256_or_ps(a.v, b.v)}; }
TOKENDRAW_INLINE Vector select(Mask mask, Vector a, Vector b) { return Vector(_mm256_blendv_ps(b.v, a.v, mask.v)); }
TOKENDRAW_INLINE Mask lanes_of(std::uint32_t bits) {
  const __m256i single = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  const __m256i wide = _mm256_set1_epi32(static_cast<int>(bits));
  return {_mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(wide, single), single))};
}
TOKENDRAW_INLINE std::uint32_t bits(Mask mask) { return static_cast<std::uint32_t>(_mm256_movemask_ps(mask.v)); }

}  // namespace
}  // namespace tokendraw::cpu
