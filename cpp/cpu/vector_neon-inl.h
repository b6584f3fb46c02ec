// SPDX-License-Identifier: Apache-2.0
// The vector type of NEON (Advanced SIMD of AArch64): four floats.
#pragma once

#include <arm_neon.h>

#include <cstdint>

#include "core/arithmetic.h"
#include "core/half.h"

namespace tokendraw::cpu {
namespace {

struct Vector {
  float32x4_t v;
  Vector() = default;
  explicit Vector(float x) : v(vdupq_n_f32(x)) {}
  explicit Vector(float32x4_t x) : v(x) {}
};
struct Mask {
  uint32x4_t v;
};
using Doubles = double __attribute__((vector_size(16)));
inline constexpr int kWidth = 4;

using tokendraw::fma;
using tokendraw::larger;
using tokendraw::power_of_two_field;

TOKENDRAW_INLINE Vector operator+(Vector a, Vector b) { return Vector(vaddq_f32(a.v, b.v)); }
TOKENDRAW_INLINE Vector operator-(Vector a, Vector b) { return Vector(vsubq_f32(a.v, b.v)); }
TOKENDRAW_INLINE Vector operator*(Vector a, Vector b) { return Vector(vmulq_f32(a.v, b.v)); }
TOKENDRAW_INLINE Vector fma(Vector a, Vector b, Vector c) { return Vector(vfmaq_f32(c.v, a.v, b.v)); }
// Not fmax, which returns the NaN, nor fmaxnm, which returns the number: the second, as maxps.
TOKENDRAW_INLINE Vector larger(Vector a, Vector b) { return Vector(vbslq_f32(vcgtq_f32(a.v, b.v), a.v, b.v)); }
TOKENDRAW_INLINE Vector power_of_two_field(Vector shifted) {
  return Vector(vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_f32(shifted.v), 23)));
}

TOKENDRAW_INLINE Vector load(const float* from) { return Vector(vld1q_f32(from)); }
TOKENDRAW_INLINE Vector load(const double* from) {
  return Vector(vcvt_high_f32_f64(vcvt_f32_f64(vld1q_f64(from)), vld1q_f64(from + 2)));
}
TOKENDRAW_INLINE Vector load(const Float16* from) {
  const uint16x4_t halves = vld1_u16(reinterpret_cast<const std::uint16_t*>(from));
  return Vector(vcvt_f32_f16(vreinterpret_f16_u16(halves)));
}
TOKENDRAW_INLINE Vector load(const Bfloat16* from) {
  const uint32x4_t wide = vmovl_u16(vld1_u16(reinterpret_cast<const std::uint16_t*>(from)));
  return Vector(vreinterpretq_f32_u32(vshlq_n_u32(wide, 16)));
}
TOKENDRAW_INLINE Doubles load_doubles(const float* from) {
  return Doubles{static_cast<double>(from[0]), static_cast<double>(from[1])};
}
TOKENDRAW_INLINE void store(float* to, Vector a) { vst1q_f32(to, a.v); }
TOKENDRAW_INLINE void store(double* to, Vector a) {
  vst1q_f64(to, vcvt_f64_f32(vget_low_f32(a.v)));
  vst1q_f64(to + 2, vcvt_high_f64_f32(a.v));
}
TOKENDRAW_INLINE void store(Float16* to, Vector a) {
  vst1_u16(reinterpret_cast<std::uint16_t*>(to), vreinterpret_u16_f16(vcvt_f16_f32(a.v)));
}
/// Of numbers: a NaN may become anything.
TOKENDRAW_INLINE void store(Bfloat16* to, Vector a) {
  const uint32x4_t pattern = vreinterpretq_u32_f32(a.v);
  const uint32x4_t odd = vandq_u32(vshrq_n_u32(pattern, 16), vdupq_n_u32(1));
  const uint32x4_t rounded = vaddq_u32(pattern, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
  vst1_u16(reinterpret_cast<std::uint16_t*>(to), vshrn_n_u32(rounded, 16));
}
TOKENDRAW_INLINE void stream(float* to, Vector a) { store(to, a); }
TOKENDRAW_INLINE void finish_stream() {}

TOKENDRAW_INLINE Mask not_at_most(Vector a, Vector b) { return {vmvnq_u32(vcleq_f32(a.v, b.v))}; }
TOKENDRAW_INLINE Mask greater_equal(Vector a, Vector b) { return {vcgeq_f32(a.v, b.v)}; }
TOKENDRAW_INLINE Mask unordered(Vector a, Vector b) {
  return {vmvnq_u32(vandq_u32(vceqq_f32(a.v, a.v), vceqq_f32(b.v, b.v)))};
}
TOKENDRAW_INLINE Mask no_lanes() { return {vdupq_n_u32(0)}; }
TOKENDRAW_INLINE Mask either(Mask a, Mask b) { return {vorrq_u32(a.v, b.v)}; }
TOKENDRAW_INLINE Vector select(Mask mask, Vector a, Vector b) { return Vector(vbslq_f32(mask.v, a.v, b.v)); }
TOKENDRAW_INLINE Mask lanes_of(std::uint32_t bits) {
  constexpr uint32x4_t kLaneBits = {1, 2, 4, 8};
  return {vtstq_u32(vdupq_n_u32(bits), kLaneBits)};
}
TOKENDRAW_INLINE std::uint32_t bits(Mask mask) {
  constexpr uint32x4_t kLaneBits = {1, 2, 4, 8};
  return vaddvq_u32(vandq_u32(mask.v, kLaneBits));
}

}  // namespace
}  // namespace tokendraw::cpu
