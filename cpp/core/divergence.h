// SPDX-License-Identifier: Apache-2.0
// What one token adds to a divergence between distributions p and q. Every term is computed so that it keeps its
// relative accuracy where p and q are nearly equal: differences of logarithms come in, small ones go through series.
// Templates over a value type: double, or a vector of doubles.
#pragma once

#include "core/inline.h"

namespace tokendraw {

/// Below this distance of two log-probabilities, series; above it, the probabilities themselves.
inline constexpr double kNearLogprobs = 1.0;

/// With e = ln(p/q) - shift of every token: KL(p, q) = sum(first) + ln(1 + sum(second) - sum(first)), whatever the
/// shift. second = p * (exp(-e) - 1 + e) is never negative, so that a shift near the mean of ln(p/q) cancels nothing.
template <class Double>
struct KlTerms {
  Double first;
  Double second;
};

/// p * exp(-e) = q; p or q may be 0, then e is finite and anything.
template <class Double>
TOKENDRAW_INLINE KlTerms<Double> kl_terms(Double p, Double q, Double e) {
  // exp(-e) - 1 + e by Taylor's sum to degree 13: relative error below 1e-9 for |e| <= 1.
  Double sum = 1.0 / 479001600.0 - e * (1.0 / 6227020800.0);
  sum = 1.0 / 39916800.0 - e * sum;
  sum = 1.0 / 3628800.0 - e * sum;
  sum = 1.0 / 362880.0 - e * sum;
  sum = 1.0 / 40320.0 - e * sum;
  sum = 1.0 / 5040.0 - e * sum;
  sum = 1.0 / 720.0 - e * sum;
  sum = 1.0 / 120.0 - e * sum;
  sum = 1.0 / 24.0 - e * sum;
  sum = 1.0 / 6.0 - e * sum;
  sum = 0.5 - e * sum;
  const Double first = p * e;
  const auto near = (e > -kNearLogprobs) & (e < kNearLogprobs) & (p > 0.0);
  return {first, near ? first * e * sum : q - p + first};
}

/// (p ln(p/m) + q ln(q/m)) / 2 with m = (p + q) / 2, and e = ln(p/q) as above. Symmetric to the bit.
/// With t = |p - q| / (p + q) = tanh(|e| / 2) it is (p + q) / 4 * ((1 + t) ln(1 + t) + (1 - t) ln(1 - t)).
template <class Double>
TOKENDRAW_INLINE Double js_term(Double p, Double q, Double e) {
  const Double distance = e < 0.0 ? -e : e;
  const auto near = (distance < kNearLogprobs) & (p > 0.0) & (q > 0.0);
  // Lambert's continued fraction of the hyperbolic tangent, five levels: relative error below 1e-10.
  const Double half = 0.5 * distance;
  const Double square = half * half;
  const Double sum = p + q;
  const Double difference = p < q ? q - p : p - q;
  const Double some = sum > 0.0 ? sum : sum + 1.0;
  const Double numerator = near ? half * (945.0 + square * (105.0 + square)) : difference;
  const Double denominator = near ? 945.0 + square * (420.0 + square * 15.0) : some;
  const Double t = numerator / denominator;

  // t^2 + t^4 / 6 + t^6 / 15 + ...: t^(2k) / (k (2k - 1)).
  const Double t2 = t * t;
  Double series = 1.0 / 91.0 + t2 * (1.0 / 120.0);
  series = 1.0 / 66.0 + t2 * series;
  series = 1.0 / 45.0 + t2 * series;
  series = 1.0 / 28.0 + t2 * series;
  series = 1.0 / 15.0 + t2 * series;
  series = 1.0 / 6.0 + t2 * series;
  series = t2 + t2 * t2 * series;

  // ln(1 - t) = ln(1 + t) - |e|, and ln(1 + t) = 2 artanh(t / (2 + t)).
  const Double s = t / (2.0 + t);
  const Double s2 = s * s;
  Double artanh = 1.0 / 15.0 + s2 * (1.0 / 17.0);
  artanh = 1.0 / 13.0 + s2 * artanh;
  artanh = 1.0 / 11.0 + s2 * artanh;
  artanh = 1.0 / 9.0 + s2 * artanh;
  artanh = 1.0 / 7.0 + s2 * artanh;
  artanh = 1.0 / 5.0 + s2 * artanh;
  artanh = 1.0 / 3.0 + s2 * artanh;
  artanh = s + s * s2 * artanh;
  const Double far = 4.0 * artanh - (1.0 - t) * distance;
  return 0.25 * sum * (t < 0.3 ? series : far);
}

}  // namespace tokendraw
