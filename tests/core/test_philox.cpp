// SPDX-License-Identifier: Apache-2.0
// Philox4x32-10 against Random123's known answers (kat_vectors), and the layout of the counter.
#include "check.h"
#include "core/philox.h"

namespace {

using namespace tokendraw;

void check_block(PhiloxBlock actual, PhiloxBlock expected) {
  for (int i = 0; i < 4; ++i) CHECK_EQUAL(actual.word[i], expected.word[i]);
}

TEST(known_answers) {
  check_block(philox4x32_10({{0, 0, 0, 0}}, 0, 0), {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}});
  check_block(philox4x32_10({{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}}, 0xffffffff, 0xffffffff),
              {{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}});
  check_block(philox4x32_10({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, 0xa4093822, 0x299f31d0),
              {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}});
}

TEST(uniform_bits_are_one_block_of_the_counter_layout) {
  const RandomSource source{0x0123456789abcdefu, 0x00fedcba98765432u, 0x13572468u};
  const PhiloxBlock block = philox4x32_10({{5, 0x00fedcbau, 0x98765432u, 0x13572468u}}, 0x89abcdefu, 0x01234567u);
  const Uint128 bits = uniform_bits(source, Purpose::kDraw, 5);
  for (int i = 0; i < 4; ++i) CHECK_EQUAL(static_cast<std::uint32_t>(bits >> (32 * i)), block.word[i]);
}

TEST(the_purpose_is_the_high_byte_of_the_second_word) {
  const RandomSource source{1, 2, 3};
  const Uint128 bits = uniform_bits(source, static_cast<Purpose>(7), 0);
  const PhiloxBlock block = philox4x32_10({{0, 7u << 24, 2, 3}}, 1, 0);
  CHECK_EQUAL(static_cast<std::uint32_t>(bits), block.word[0]);
  CHECK(bits != uniform_bits(source, Purpose::kDraw, 0));
}

}  // namespace
