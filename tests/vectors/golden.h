// SPDX-License-Identifier: Apache-2.0
// The cases of golden.csv, as golden.py makes them: words of Philox, and arithmetic that is exact on every machine.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "plan/request.h"

namespace tokendraw::test {

/// Draws that share their logits, mask and bias.
inline constexpr int kDrawsPerRow = 32;
inline constexpr std::int64_t kFirstDraws = 640;

/// One line of golden.csv.
struct GoldenGroup {
  std::string name;
  std::string hash;
  std::string first_hash;  // of the first kFirstDraws, which slow emulators run
  std::int64_t draws = 0;
  std::map<std::string, std::vector<std::string>> choices;  // by column
};

std::vector<GoldenGroup> parse_golden(const std::string& csv);

/// One row of logits with the kDrawsPerRow draws from it.
class GoldenRow {
 public:
  GoldenRow(const GoldenGroup& group, std::int64_t row);
  GoldenRow(const GoldenRow&) = delete;
  GoldenRow& operator=(const GoldenRow&) = delete;

  /// Borrows from this object.
  const Request& request() const { return request_; }

 private:
  void make_logits();
  void make_mask();
  void make_bias();
  void make_parameters();
  void make_randomness();
  void store(const std::vector<float>& logits, const std::vector<std::uint32_t>& words);

  std::string choice(const std::string& column, std::int64_t index, const char* neutral) const;
  std::vector<std::uint32_t> words(const char* purpose) const;
  std::vector<double> numbers(const char* column, const char* neutral) const;

  const GoldenGroup& group_;
  const std::int64_t row_;
  std::int64_t vocab_ = 0;
  std::vector<float> floats_;
  std::vector<double> doubles_;
  std::vector<std::uint16_t> halves_;
  std::vector<std::uint8_t> allowed_;
  std::vector<std::uint32_t> allowed_bits_;
  std::vector<float> bias_;
  std::vector<TokenBias> token_bias_;
  std::vector<std::vector<double>> reals_;
  std::vector<std::int64_t> top_k_;
  std::vector<std::uint64_t> seed_, stream_, step_;
  Request request_;
};

/// The hash of Fowler, Noll and Vo, 64 bits, of words of 32 bits with the low byte first.
class Fnv1a {
 public:
  void add(std::uint32_t word) {
    for (int shift = 0; shift < 32; shift += 8) value_ = (value_ ^ (word >> shift & 0xffu)) * 0x100000001b3u;
  }
  std::string text() const;

 private:
  std::uint64_t value_ = 0xcbf29ce484222325u;
};

}  // namespace tokendraw::test
