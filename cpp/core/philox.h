// SPDX-License-Identifier: Apache-2.0
// Philox4x32-10 and the layout of its counter: the only source of randomness.
// Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
#pragma once

#include <cstdint>

#include "core/fixed_point.h"
#include "core/inline.h"

namespace tokendraw {

struct PhiloxBlock {
  std::uint32_t word[4];
};

TOKENDRAW_INLINE PhiloxBlock philox4x32_10(PhiloxBlock counter, std::uint32_t key0, std::uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t left = std::uint64_t{0xD2511F53u} * counter.word[0];
    const std::uint64_t right = std::uint64_t{0xCD9E8D57u} * counter.word[2];
    counter = {{static_cast<std::uint32_t>(right >> 32) ^ counter.word[1] ^ key0, static_cast<std::uint32_t>(right),
                static_cast<std::uint32_t>(left >> 32) ^ counter.word[3] ^ key1, static_cast<std::uint32_t>(left)}};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

enum class Purpose : std::uint32_t { kDraw = 0, kXtc = 1, kVerifyAccept = 2, kVerifyResidual = 3, kGumbel = 4 };

/// Where a row's randomness comes from. `stream` < 2^56.
struct RandomSource {
  std::uint64_t seed;
  std::uint64_t stream;
  std::uint32_t step;
};

/// A uniform integer in [0, 2^128): block `index` of what one draw consumes, word 0 lowest.
TOKENDRAW_INLINE Uint128 uniform_bits(const RandomSource& source, Purpose purpose, std::uint32_t index) {
  const PhiloxBlock counter{
      {index, static_cast<std::uint32_t>(purpose) << 24 | static_cast<std::uint32_t>(source.stream >> 32),
       static_cast<std::uint32_t>(source.stream), source.step}};
  const PhiloxBlock block =
      philox4x32_10(counter, static_cast<std::uint32_t>(source.seed), static_cast<std::uint32_t>(source.seed >> 32));
  const std::uint64_t low = block.word[0] | std::uint64_t{block.word[1]} << 32;
  const std::uint64_t high = block.word[2] | std::uint64_t{block.word[3]} << 32;
  return static_cast<Uint128>(high) << 64 | low;
}

}  // namespace tokendraw
