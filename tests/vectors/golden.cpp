// SPDX-License-Identifier: Apache-2.0
#include "vectors/golden.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <sstream>

namespace tokendraw::test {
namespace {

constexpr std::uint32_t kKey[2] = {0x746f6b65u, 0x6e647277u};

std::uint32_t tag_of(const std::string& name) {
  std::uint32_t value = 0x811c9dc5u;
  for (const char letter : name) value = (value ^ static_cast<unsigned char>(letter)) * 0x01000193u;
  return value;
}

PhiloxBlock block_of(const GoldenGroup& group, const std::string& purpose, std::int64_t index, std::int64_t row = 0) {
  return philox4x32_10(
      {{static_cast<std::uint32_t>(index), tag_of(purpose), tag_of(group.name), static_cast<std::uint32_t>(row)}},
      kKey[0], kKey[1]);
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
  return parts;
}

/// In [-65535, 65535], most often near zero.
float bell(std::uint32_t word) {
  return static_cast<float>(static_cast<std::int32_t>((word & 0xffffu) + (word >> 16)) - 65535);
}

/// A logit as a function of its word, its token, and the one token that "alone" leaves.
using Shape = float (*)(std::uint32_t word, std::int64_t token, std::int64_t alone);

const std::map<std::string, Shape> kShapes{
    {"flat", [](std::uint32_t word, std::int64_t, std::int64_t) { return static_cast<float>(word >> 16) * 0x1p-14f; }},
    {"bell", [](std::uint32_t word, std::int64_t, std::int64_t) { return bell(word) * 0x1p-13f; }},
    {"peaked",
     [](std::uint32_t word, std::int64_t, std::int64_t) {
       const std::uint64_t half = word >> 16;
       return static_cast<float>(half * half >> 18) * 0x1p-6f;
     }},
    {"model", [](std::uint32_t word, std::int64_t,
                 std::int64_t) { return bell(word) * 0x1p-14f + (word % 509 == 0 ? 12.0f : 0.0f); }},
    {"tied", [](std::uint32_t word, std::int64_t, std::int64_t) { return static_cast<float>(word & 3) - 2.0f; }},
    {"equal", [](std::uint32_t, std::int64_t, std::int64_t) { return 0.75f; }},
    {"holes", [](std::uint32_t word, std::int64_t token,
                 std::int64_t) { return word % 3 == 0 && token > 0 ? -HUGE_VALF : bell(word) * 0x1p-13f; }},
    {"large", [](std::uint32_t word, std::int64_t, std::int64_t) { return bell(word) * 0x1p10f; }},
    {"huge", [](std::uint32_t word, std::int64_t, std::int64_t) { return bell(word) * 0x1p112f; }},
    {"tiny", [](std::uint32_t word, std::int64_t, std::int64_t) { return bell(word) * 0x1p-149f; }},
    {"zeros", [](std::uint32_t word, std::int64_t, std::int64_t) { return (word & 1) != 0 ? -0.0f : 0.0f; }},
    {"alone", [](std::uint32_t, std::int64_t token, std::int64_t alone) { return token == alone ? 1.5f : -HUGE_VALF; }},
};

/// Cut to the eleven bits of a float16; zero, -inf, or a normal number of both types.
std::uint16_t to_float16(float x) {
  const auto pattern = bit_cast<std::uint32_t>(x);
  const std::uint32_t sign = pattern >> 16 & 0x8000u;
  const std::uint32_t magnitude = pattern & 0x7fffffffu;
  if (magnitude == 0) return static_cast<std::uint16_t>(sign);
  if (magnitude == 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7c00u);
  return static_cast<std::uint16_t>(sign | ((magnitude >> 13) - (112u << 10)));
}

/// With bits below those of a float32, to be rounded off.
double to_float64(float x, std::uint32_t word) {
  const auto pattern = bit_cast<std::uint64_t>(static_cast<double>(x));
  return std::isinf(x) ? static_cast<double>(x) : bit_cast<double>(pattern | word * 0x9e3779b1u >> 3);
}

template <class T>
PerRow<T> column_of(const std::vector<T>& values) {
  PerRow<T> column;
  column.values = values.data();
  column.count = static_cast<std::int64_t>(values.size());
  return column;
}

}  // namespace

std::vector<GoldenGroup> parse_golden(const std::string& csv) {
  std::vector<GoldenGroup> groups;
  std::vector<std::string> names;
  for (const std::string& line : split(csv, '\n')) {
    const std::vector<std::string> cells = split(line, ',');
    if (names.empty()) {
      names = cells;
      continue;
    }
    GoldenGroup group;
    for (std::size_t i = 0; i < cells.size(); ++i) {
      if (names[i] == "group") {
        group.name = cells[i];
      } else if (names[i] == "hash") {
        group.hash = cells[i];
      } else if (names[i] == "first_hash") {
        group.first_hash = cells[i];
      } else if (names[i] == "draws") {
        group.draws = std::stoll(cells[i]);
      } else if (!cells[i].empty()) {
        group.choices[names[i]] = split(cells[i], ' ');
      }
    }
    if (!group.name.empty()) groups.push_back(group);
  }
  return groups;
}

std::string Fnv1a::text() const {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value_));
  return text;
}

GoldenRow::GoldenRow(const GoldenGroup& group, std::int64_t row) : group_(group), row_(row) {
  vocab_ = std::stoll(choice("vocab", row_, ""));
  request_.logits.rows = kDrawsPerRow;
  request_.logits.vocab = vocab_;
  request_.logits.leading_shape = {kDrawsPerRow};
  request_.logits.leading_strides = {0};
  make_logits();
  make_mask();
  make_bias();
  make_parameters();
  make_randomness();
}

std::string GoldenRow::choice(const std::string& column, std::int64_t index, const char* neutral) const {
  const auto found = group_.choices.find(column);
  if (found == group_.choices.end()) return neutral;
  return found->second[block_of(group_, column, index).word[0] % found->second.size()];
}

/// One word per token of the row.
std::vector<std::uint32_t> GoldenRow::words(const char* purpose) const {
  const std::uint32_t tags[2] = {tag_of(purpose), tag_of(group_.name)};
  std::vector<std::uint32_t> all;
  for (std::uint32_t block = 0; block * 4 < vocab_; ++block) {
    const PhiloxBlock four =
        philox4x32_10({{block, tags[0], tags[1], static_cast<std::uint32_t>(row_)}}, kKey[0], kKey[1]);
    all.insert(all.end(), four.word, four.word + 4);
  }
  all.resize(static_cast<std::size_t>(vocab_));
  return all;
}

std::vector<double> GoldenRow::numbers(const char* column, const char* neutral) const {
  std::vector<double> values;
  for (int i = 0; i < kDrawsPerRow; ++i) values.push_back(std::stod(choice(column, row_ * kDrawsPerRow + i, neutral)));
  return values;
}

void GoldenRow::make_logits() {
  const Shape shape = kShapes.at(choice("shape", row_, ""));
  const std::vector<std::uint32_t> random = words("logits");
  const std::int64_t alone = block_of(group_, "alone", row_).word[0] % vocab_;
  std::vector<float> logits;
  for (std::int64_t token = 0; token < vocab_; ++token) {
    logits.push_back(shape(random[static_cast<std::size_t>(token)], token, alone));
  }
  store(logits, random);
}

void GoldenRow::store(const std::vector<float>& logits, const std::vector<std::uint32_t>& words) {
  const std::string dtype = choice("dtype", row_, "float32");
  if (dtype == "float32") {
    floats_ = logits;
    request_.logits.dtype = Dtype::kFloat32;
    request_.logits.data = floats_.data();
  } else if (dtype == "float64") {
    for (std::size_t i = 0; i < logits.size(); ++i) doubles_.push_back(to_float64(logits[i], words[i]));
    request_.logits.dtype = Dtype::kFloat64;
    request_.logits.data = doubles_.data();
  } else {
    const bool brain = dtype == "bfloat16";
    for (const float logit : logits) {
      halves_.push_back(brain ? static_cast<std::uint16_t>(bit_cast<std::uint32_t>(logit) >> 16) : to_float16(logit));
    }
    request_.logits.dtype = brain ? Dtype::kBfloat16 : Dtype::kFloat16;
    request_.logits.data = halves_.data();
  }
}

void GoldenRow::make_mask() {
  const std::string kind = choice("mask", row_, "none");
  if (kind == "none") return;
  for (const std::uint32_t word : words("mask")) allowed_.push_back(word & 1);
  allowed_[0] = 1;
  if (kind == "bool") {
    request_.edits.allowed = allowed_.data();
    return;
  }
  allowed_bits_.resize((allowed_.size() + 31) / 32);
  for (std::size_t i = 0; i < allowed_.size(); ++i) {
    allowed_bits_[i / 32] |= static_cast<std::uint32_t>(allowed_[i]) << i % 32;
  }
  if (kind == "short") allowed_bits_.resize((allowed_bits_.size() + 1) / 2);
  request_.edits.allowed_bits = allowed_bits_.data();
  request_.edits.allowed_words = static_cast<std::int64_t>(allowed_bits_.size());
}

void GoldenRow::make_bias() {
  const std::string kind = choice("bias", row_, "none");
  if (kind == "dense") {
    for (const std::uint32_t word : words("bias")) {
      bias_.push_back(word % 16 == 5 && !bias_.empty() ? -HUGE_VALF : bell(word) * 0x1p-14f);
    }
    request_.edits.bias = bias_.data();
  } else if (kind == "sparse") {
    const auto last = static_cast<std::int32_t>(vocab_ - 1);
    if (last > 0) token_bias_.push_back({static_cast<std::int32_t>(vocab_ / 3), 2.5f});
    token_bias_.push_back({last, -1.25f});
    request_.edits.token_bias = token_bias_.data();
    request_.edits.token_bias_count = static_cast<std::int64_t>(token_bias_.size());
  }
}

void GoldenRow::make_parameters() {
  FilterParams& params = request_.params;
  const auto take = [&](const char* column, const char* neutral, PerRow<double>& parameter) {
    reals_.push_back(numbers(column, neutral));
    parameter = column_of(reals_.back());
  };
  reals_.reserve(9);
  take("temperature", "1", params.temperature);
  take("top_p", "1", params.top_p);
  take("min_p", "0", params.min_p);
  take("typical_p", "1", params.typical_p);
  take("epsilon_cutoff", "0", params.epsilon_cutoff);
  take("eta_cutoff", "0", params.eta_cutoff);
  take("top_n_sigma", "0", params.top_n_sigma);
  take("xtc_probability", "0", params.xtc_probability);
  take("xtc_threshold", "0.1", params.xtc_threshold);
  for (const double k : numbers("top_k", "0")) top_k_.push_back(static_cast<std::int64_t>(k));
  params.top_k = column_of(top_k_);
}

void GoldenRow::make_randomness() {
  for (std::int64_t draw = row_ * kDrawsPerRow; draw < (row_ + 1) * kDrawsPerRow; ++draw) {
    const PhiloxBlock block = block_of(group_, "seed", draw);
    seed_.push_back(block.word[0] | std::uint64_t{block.word[1]} << 32);
    stream_.push_back(block.word[2] | std::uint64_t{block.word[3] & 0xffffffu} << 32);
    step_.push_back(block_of(group_, "step", draw).word[0]);
  }
  request_.randomness.seed = column_of(seed_);
  request_.randomness.stream = column_of(stream_);
  request_.randomness.step = column_of(step_);
}

}  // namespace tokendraw::test
