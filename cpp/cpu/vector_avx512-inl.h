// SPDX-License-Identifier: Apache-2.0
// The vector type of AVX-512 (F, BW, DQ, VL): sixteen floats.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "core/arithmetic.h"
#include "core/half.h"

namespace tokendraw::cpu {
namespace {

struct Vector {
  __m512 v;
  Vector() = default;
  explicit Vector(float x) : v(_mm512_set1_ps(x)) {}
  explicit Vector(__m512 x) : v(x) {}
};
struct Mask {
  __mmask16 v;
};
using Doubles = double __attribute__((vector_size(64)));
inline constexpr int kWidth = 16;

using tokendraw::fma;
using tokendraw::larger;
using tokendraw::power_of_two_field;

TOKENDRAW_INLINE Vector operator+(Vector a, Vector b) { return Vector(_mm512_add_ps(a.v, b.v)); }
TOKENDRAW_INLINE Vector operator-(Vector a, Vector b) { return Vector(_mm512_sub_ps(a.v, b.v)); }
TOKENDRAW_INLINE Vector operator*(Vector a, Vector b) { return Vector(_mm512_mul_ps(a.v, b.v)); }
TOKENDRAW_INLINE Vector fma(Vector a, Vector b, Vector c) { return Vector(_mm512_fmadd_ps(a.v, b.v, c.v)); }
// Written with a full mask: the unmasked intrinsic of gcc 12 reads an uninitialised register (-Wuninitialized).
TOKENDRAW_INLINE Vector larger(Vector a, Vector b) {
  return Vector(_mm512_maskz_max_ps(static_cast<__mmask16>(0xffff), a.v, b.v));
}
TOKENDRAW_INLINE Vector power_of_two_field(Vector shifted) {
  return Vector(
      _mm512_castsi512_ps(_mm512_maskz_slli_epi32(static_cast<__mmask16>(0xffff), _mm512_castps_si512(shifted.v), 23)));
}

TOKENDRAW_INLINE Vector load(const float* from) { return Vector(_mm512_loadu_ps(from)); }
TOKENDRAW_INLINE Vector load(const double* from) {
  constexpr auto kAll = static_cast<__mmask8>(0xff);
  const __m256 low = _mm512_maskz_cvtpd_ps(kAll, _mm512_loadu_pd(from));
  const __m256 high = _mm512_maskz_cvtpd_ps(kAll, _mm512_loadu_pd(from + 8));
  return Vector(_mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1));
}
TOKENDRAW_INLINE Vector load(const Float16* from) {
  return Vector(_mm512_maskz_cvtph_ps(static_cast<__mmask16>(0xffff),
                                      _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))));
}
TOKENDRAW_INLINE Vector load(const Bfloat16* from) {
  constexpr auto kAll = static_cast<__mmask16>(0xffff);
  const __m512i wide = _mm512_maskz_cvtepu16_epi32(kAll, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  return Vector(_mm512_castsi512_ps(_mm512_maskz_slli_epi32(kAll, wide, 16)));
}
TOKENDRAW_INLINE Doubles load_doubles(const float* from) {
  return _mm512_maskz_cvtps_pd(static_cast<__mmask8>(0xff), _mm256_loadu_ps(from));
}
TOKENDRAW_INLINE void store(float* to, Vector a) { _mm512_storeu_ps(to, a.v); }
TOKENDRAW_INLINE void store(double* to, Vector a) {
  constexpr auto kAll = static_cast<__mmask8>(0xff);
  _mm512_storeu_pd(to, _mm512_maskz_cvtps_pd(kAll, _mm512_maskz_extractf32x8_ps(kAll, a.v, 0)));
  _mm512_storeu_pd(to + 8, _mm512_maskz_cvtps_pd(kAll, _mm512_maskz_extractf32x8_ps(kAll, a.v, 1)));
}
TOKENDRAW_INLINE void store(Float16* to, Vector a) {
  constexpr auto kAll = static_cast<__mmask16>(0xffff);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                      _mm512_maskz_cvtps_ph(kAll, a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
/// Of numbers: a NaN may become anything.
TOKENDRAW_INLINE void store(Bfloat16* to, Vector a) {
  constexpr auto kAll = static_cast<__mmask16>(0xffff);
  const __m512i pattern = _mm512_castps_si512(a.v);
  const __m512i odd = _mm512_and_si512(_mm512_maskz_srli_epi32(kAll, pattern, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(pattern, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                      _mm512_maskz_cvtepi32_epi16(kAll, _mm512_maskz_srli_epi32(kAll, rounded, 16)));
}
/// An aligned store that leaves the caches alone; others see it after finish_stream.
TOKENDRAW_INLINE void stream(float* to, Vector a) { _mm512_stream_ps(to, a.v); }
TOKENDRAW_INLINE void finish_stream() { _mm_sfence(); }

TOKENDRAW_INLINE Mask not_at_most(Vector a, Vector b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_NLE_UQ)}; }
TOKENDRAW_INLINE Mask greater_equal(Vector a, Vector b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_GE_OQ)}; }
TOKENDRAW_INLINE Mask unordered(Vector a, Vector b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_UNORD_Q)}; }
TOKENDRAW_INLINE Mask no_lanes() { return {0}; }
TOKENDRAW_INLINE Mask either(Mask a, Mask b) { return {static_cast<__mmask16>(a.v | b.v)}; }
TOKENDRAW_INLINE Vector select(Mask mask, Vector a, Vector b) { return Vector(_mm512_mask_blend_ps(mask.v, b.v, a.v)); }
TOKENDRAW_INLINE Mask lanes_of(std::uint32_t bits) { return {static_cast<__mmask16>(bits)}; }
TOKENDRAW_INLINE std::uint32_t bits(Mask mask) { return mask.v; }

}  // namespace
}  // namespace tokendraw::cpu
