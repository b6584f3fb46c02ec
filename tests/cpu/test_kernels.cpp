// SPDX-License-Identifier: Apache-2.0
// Every kernel of every ISA of this machine: the same bits as the scalar table, the values of plain loops, and no byte
// read or written outside its arrays.
#include <algorithm>
#include <array>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <memory>
#include <numeric>
#include <vector>

#include "check.h"
#include "core/half.h"
#include "cpu/isa.h"
#include "guarded.h"

namespace {

using namespace tokendraw;
using cpu::Kernels;
using cpu::RowView;
using cpu::TileSpan;
using cpu::TileSummary;
using test::Guarded;

constexpr std::array<std::int64_t, 20> kSizes{1,  2,  7,   8,    15,   16,   17,   31,   32,   33,
                                              63, 65, 255, 1000, 1023, 1024, 1025, 1056, 2048, 3101};

// ---- rows -------------------------------------------------------------------------------------------------

using Values = std::vector<float>;

Values filled(std::int64_t size, float value) { return Values(static_cast<std::size_t>(size), value); }

template <class Draw>
Values drawn(std::int64_t size, Draw draw) {
  Values values(static_cast<std::size_t>(size));
  std::generate(values.begin(), values.end(), draw);
  return values;
}

/// Name and values of rows that kernels could disagree about. All hold at least one finite value.
std::vector<std::pair<std::string, Values>> rows_of(std::int64_t size) {
  test::Random random(static_cast<std::uint64_t>(size));
  const auto uniform = [&](double low, double high) {
    return drawn(size, [&, low, high] { return static_cast<float>(random.between(low, high)); });
  };
  std::vector<std::pair<std::string, Values>> rows{
      {"constant", filled(size, 1.25f)}, {"peaked", uniform(-40.0, 20.0)}, {"flat", uniform(-2.0, 2.0)},
      {"large", uniform(-1e6, 1e6)},     {"huge", uniform(-3e38, 3e38)},   {"subnormal", uniform(-1e-39, 1e-39)}};
  rows.emplace_back("few levels", drawn(size, [&] { return static_cast<float>(random.below(4)) - 2.0f; }));
  rows.emplace_back("zeros", drawn(size, [&] { return random.below(2) == 0 ? 0.0f : -0.0f; }));
  Values holes = uniform(-8.0, 8.0);
  for (float& value : holes) value = random.below(3) == 0 ? -HUGE_VALF : value;
  holes.back() = -1.0f;
  rows.emplace_back("holes", holes);
  Values last = filled(size, -HUGE_VALF);
  last.back() = -2.5f;
  rows.emplace_back("last alone", last);
  Values any_bits = drawn(size, [&] {
    const float value = bit_cast<float>(static_cast<std::uint32_t>(random.bits()));
    return value < HUGE_VALF ? value : -HUGE_VALF;
  });
  any_bits.front() = 1.0f;
  rows.emplace_back("any bits", any_bits);
  return rows;
}

/// Cut to float16: nearer zero, too large for it is its largest.
std::uint16_t to_float16(float x) {
  const auto sign = static_cast<std::uint16_t>(std::signbit(x) ? 0x8000u : 0u);
  const float magnitude = std::fabs(x);
  if (std::isnan(x)) return 0x7e00;
  if (std::isinf(x)) return sign | 0x7c00u;
  if (magnitude >= 65504.0f) return sign | 0x7bffu;
  if (magnitude < 0x1p-14f) return sign | static_cast<std::uint16_t>(magnitude * 0x1p24f);
  const int exponent = std::ilogb(magnitude);
  const auto mantissa = static_cast<std::uint16_t>(std::ldexp(magnitude, 10 - exponent)) & 0x3ffu;
  return static_cast<std::uint16_t>(sign | static_cast<std::uint32_t>(exponent + 15) << 10 | mantissa);
}

/// A row in the caller's dtype, next to forbidden memory, and what its elements are as float32.
class Row {
 public:
  Row(const Values& values, Dtype dtype, bool at_end)
      : bytes_(values.size() * size_of(dtype), at_end), values_(values), dtype_(dtype) {
    for (std::size_t i = 0; i < values.size(); ++i) encode(i, values[i]);
  }

  RowView view() const {
    RowView row;
    row.logits = bytes_.data();
    row.dtype = dtype_;
    row.vocab = static_cast<std::int64_t>(values_.size());
    return row;
  }
  const Values& values() const { return values_; }

 private:
  template <class T>
  void put(std::size_t i, T element, float value) {
    std::memcpy(bytes_.data() + i * sizeof element, &element, sizeof element);
    values_[i] = value;
  }

  void encode(std::size_t i, float x) {
    const auto pattern = static_cast<std::uint16_t>(bit_cast<std::uint32_t>(x) >> 16);
    // Off the float by less than half a unit: reading must round.
    const double near =
        std::isfinite(x) && x != 0.0f ? static_cast<double>(x) * (1.0 + 0x1p-26) : static_cast<double>(x);
    switch (dtype_) {
      case Dtype::kFloat16: return put(i, to_float16(x), widen(Float16{to_float16(x)}));
      case Dtype::kBfloat16: return put(i, pattern, widen(Bfloat16{pattern}));
      case Dtype::kFloat64: return put(i, near, static_cast<float>(near));
      default: return put(i, x, x);
    }
  }

  Guarded<char> bytes_;
  Values values_;
  Dtype dtype_;
};

/// Mask and bias of a row, each in memory of its own, so that no kernel reads past one either.
class Edits {
 public:
  Edits(const std::string& kind, std::int64_t vocab, bool at_end)
      : kind_(kind),
        words_((vocab + 31) / 32 - (kind == "short bits" && vocab > 32 ? 1 : 0)),
        allowed_(static_cast<std::size_t>(vocab), at_end),
        bits_(static_cast<std::size_t>(words_), at_end),
        bias_(static_cast<std::size_t>(vocab), at_end),
        token_bias_(static_cast<std::size_t>((vocab + 6) / 7), at_end) {
    test::Random random(static_cast<std::uint64_t>(vocab) * 31 + 7);
    for (std::int64_t token = 0; token < vocab; ++token) {
      const auto i = static_cast<std::size_t>(token);
      allowed_[i] = static_cast<std::uint8_t>(random.below(4));
      bias_[i] = random.below(5) == 0 ? -HUGE_VALF : static_cast<float>(random.between(-3.0, 3.0));
      if (token % 7 == 0) token_bias_[i / 7] = {static_cast<std::int32_t>(token), static_cast<float>(token % 5) - 2.0f};
    }
    for (std::int64_t word = 0; word < words_; ++word) {
      bits_[static_cast<std::size_t>(word)] = static_cast<std::uint32_t>(random.bits() | random.bits());
    }
    token_bias_[0].bias = FLT_MAX;
  }

  void apply_to(RowView& row) const {
    const bool all = kind_ == "all";
    if (all || kind_ == "mask") row.allowed = allowed_.data();
    if (all || kind_ == "bits" || kind_ == "short bits") row.allowed_bits = bits_.data(), row.allowed_words = words_;
    if (all || kind_ == "bias") row.bias = bias_.data();
    if (all || kind_ == "token bias") row.token_bias = token_bias_.data(), row.token_bias_count = (row.vocab + 6) / 7;
  }

 private:
  std::string kind_;
  std::int64_t words_;
  Guarded<std::uint8_t> allowed_;
  Guarded<std::uint32_t> bits_;
  Guarded<float> bias_;
  Guarded<TokenBias> token_bias_;
};

/// The edited scores by the words of the contract, token by token.
Values scores_of(const RowView& row, const Values& logits) {
  Values scores = logits;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    if (row.bias) scores[i] += row.bias[i];
    for (std::int64_t b = 0; b < row.token_bias_count; ++b) {
      if (static_cast<std::size_t>(row.token_bias[b].token) == i) scores[i] += row.token_bias[b].bias;
    }
    scores[i] = row.edited() ? std::fmin(scores[i], FLT_MAX) : scores[i];
    const std::size_t word = i / 32;
    const bool has_bit = row.allowed_bits && word < static_cast<std::size_t>(row.allowed_words) &&
                         (row.allowed_bits[word] >> (i % 32) & 1u) != 0;
    if ((row.allowed && row.allowed[i] == 0) || (row.allowed_bits && !has_bit)) scores[i] = -HUGE_VALF;
  }
  return scores;
}

// ---- kernels ----------------------------------------------------------------------------------------------

/// What the kernels of one table say about one row; arrays that they write end at forbidden memory.
struct Answers {
  std::vector<std::pair<std::string, std::string>> bytes;  // kernel and result
  bool maxima_valid = false;
  bool sums_valid = false;
  Values max;
  std::vector<double> sums;
  std::vector<double> cut_sums;
  std::int64_t kept = 0;
  std::vector<Candidate> collected;
  std::int64_t at_least = 0;
  double total = 0.0;
  Values scores;
  Values logprobs;
  Values probs;

  template <class T>
  void note(const char* kernel, const T* values, std::size_t count) {
    bytes.emplace_back(kernel, std::string(reinterpret_cast<const char*>(values), count * sizeof(T)));
  }
};

struct Question {
  RowView row;
  double temperature;
  Cutoff cutoff;
  float floor;
  float ceiling;
};

/// The spans of a row are scanned on different threads; every tile is its own.
bool scan_in_spans(const Kernels& kernels, const RowView& row, const Scale& scale, TileSummary* summaries) {
  bool valid = true;
  const std::int64_t tiles = cpu::count_tiles(row.vocab);
  for (std::int64_t tile = 0; tile < tiles; tile += 3) {
    valid &= kernels.scan_sums(row, scale, {tile, std::min(tile + 3, tiles)}, summaries, nullptr);
  }
  return valid;
}

/// What is listed holds every token near the largest, in index order, with its score; and the maxima are those of a
/// scan.
void check_near_max(const Kernels& kernels, const RowView& row, const TileSummary* summaries, float distance) {
  const float bound = std::nextafter(distance, HUGE_VALF);  // as Row asks: distances are rounded
  if (!(distance > 0.0f && bound < HUGE_VALF)) return;
  const std::int64_t tiles = cpu::count_tiles(row.vocab);
  Guarded<TileSummary> near(static_cast<std::size_t>(tiles));
  Guarded<Candidate> found(4 * kTile);
  std::int64_t count = 0;
  CHECK(kernels.scan_near_max(row, bound, near.data(), found.data(), 4 * kTile, &count));
  float largest = -HUGE_VALF;
  for (std::int64_t tile = 0; tile < tiles; ++tile) {
    CHECK_EQUAL(near[static_cast<std::size_t>(tile)].max, summaries[tile].max);
    largest = std::max(largest, summaries[tile].max);
  }
  if (count < 0) return;
  std::vector<float> scores(kTile);
  std::int64_t slot = 0;
  for (std::int64_t token = 0; token < row.vocab; ++token) {
    if (token % kTile == 0) kernels.tile_scores(row, token / kTile, scores.data());
    const float score = scores[static_cast<std::size_t>(token % kTile)];
    while (slot < count && found[static_cast<std::size_t>(slot)].token < token) ++slot;
    const bool listed = slot < count && found[static_cast<std::size_t>(slot)].token == token;
    if (listed) CHECK_EQUAL(found[static_cast<std::size_t>(slot)].score, score);
    const bool is_near = static_cast<double>(largest) - static_cast<double>(score) <= static_cast<double>(distance);
    CHECK(listed || !is_near || score < -FLT_MAX);
  }
}

/// What losses ask of a row: next to itself without its edits, too.
void note_losses(const Kernels& kernels, const Question& question, const TileSummary* summaries,
                 const std::vector<double>& factors, Answers& answers) {
  const RowView& row = question.row;
  const auto vocab = static_cast<std::size_t>(row.vocab);
  const Scale scale = make_scale(question.temperature);
  const TileSpan all{0, cpu::count_tiles(row.vocab)};
  answers.total = kernels.sum_scores(row);
  answers.note("sum_scores", &answers.total, 1);
  if (!row.edited()) {
    for (const Dtype dtype : {Dtype::kFloat32, row.dtype}) {
      Guarded<char> gradient(vocab * size_of(dtype));
      kernels.write_gradient(row, scale, all, summaries, factors.data(), 0.125f, {gradient.data(), dtype, false});
      answers.note("write_gradient", gradient.data(), vocab * size_of(dtype));
    }
    Guarded<float> streamed(vocab);
    const cpu::GradientRow past_cache{streamed.data(), Dtype::kFloat32, true};
    kernels.write_gradient(row, scale, all, summaries, factors.data(), 0.125f, past_cache);
    answers.note("write_gradient", streamed.data(), vocab);
    CHECK(answers.bytes.back().second == answers.bytes[answers.bytes.size() - 3].second);
  }
  const RowView raw = row.without_edits();
  std::vector<TileSummary> raw_summaries(factors.size());
  kernels.scan_sums(raw, scale, all, raw_summaries.data(), nullptr);
  const cpu::ComparedRow one{row, summaries, factors.data()};
  const cpu::ComparedRow two{raw, raw_summaries.data(), factors.data()};
  const cpu::Comparison comparison{0.25, -0.5, 1.0 / question.temperature, 0.01};
  const cpu::KlSums sums = kernels.kl_sums(one, two, scale, comparison);
  answers.note("kl_sums", &sums.first, 1);
  answers.note("kl_sums", &sums.second, 1);
  answers.note("kl_sums", &sums.infinite, 1);
  CHECK(!sums.infinite);  // an edit takes tokens away, and gives none
  const double js = kernels.js_sum(one, two, scale, comparison);
  answers.note("js_sum", &js, 1);
}

/// A tile as probabilities, what a distribution that is its mirror image leaves of it, and the lanes of that.
void note_residual(const Kernels& kernels, const RowView& row, std::int64_t tile, const WeightConstants& constants,
                   Cutoff cutoff, Answers& answers) {
  Guarded<double> p(kTile);
  Guarded<double> q(kTile);
  Guarded<double> lanes(kLanes);
  kernels.tile_probs(row, tile, constants, cutoff, 1.0 / 3.0, p.data());
  answers.note("tile_probs", p.data(), kTile);
  std::reverse_copy(p.data(), p.data() + kTile, q.data());
  for (const int count : {1, kTile}) {
    std::vector<double> expected(p.data(), p.data() + count);
    for (std::size_t i = 0; i < expected.size(); ++i) expected[i] = std::max(expected[i] - q[i] * 0.75, 0.0) * 1.5;
    kernels.take_residual(q.data(), 0.75, 1.5, count, p.data());
    CHECK(std::equal(expected.begin(), expected.end(), p.data()));
  }
  kernels.prob_lanes(p.data(), lanes.data());
  answers.note("prob_lanes", lanes.data(), kLanes);
}

Answers ask(const Kernels& kernels, const Question& question) {
  const auto& [row, temperature, cutoff, floor, ceiling] = question;
  const auto tiles = static_cast<std::size_t>(cpu::count_tiles(row.vocab));
  const auto vocab = static_cast<std::size_t>(row.vocab);
  const Scale scale = make_scale(temperature);
  const TileSpan all{0, static_cast<std::int64_t>(tiles)};
  Answers answers;

  Guarded<TileSummary> maxima(tiles);
  Guarded<float> groups(tiles * cpu::kGroupsPerTile);
  answers.maxima_valid = kernels.scan_max(row, all, maxima.data(), groups.data());
  answers.note("scan_max groups", groups.data(), tiles * cpu::kGroupsPerTile);
  Guarded<TileSummary> summaries(tiles);
  CHECK_EQUAL(kernels.scan_max(row, all, summaries.data(), nullptr), answers.maxima_valid);
  answers.sums_valid = scan_in_spans(kernels, row, scale, summaries.data());
  Guarded<TileSummary> whole(tiles);
  Guarded<float> whole_groups(tiles * cpu::kGroupsPerTile);
  CHECK_EQUAL(kernels.scan_sums(row, scale, all, whole.data(), whole_groups.data()), answers.sums_valid);
  answers.note("valid", &answers.maxima_valid, 1);
  answers.note("valid", &answers.sums_valid, 1);
  if (!answers.sums_valid) {
    answers.bytes.erase(answers.bytes.begin());  // where a row is invalid nobody looks at its maxima
    return answers;
  }
  for (std::size_t tile = 0; tile < tiles; ++tile) {
    answers.max.push_back(summaries[tile].max);
    answers.sums.push_back(summaries[tile].sum);
    answers.note("scan_max", &maxima[tile].max, 1);
  }
  const std::size_t group_bytes = tiles * cpu::kGroupsPerTile * sizeof(float);
  CHECK_EQUAL(std::memcmp(whole_groups.data(), groups.data(), group_bytes), 0);
  for (std::size_t tile = 0; tile < tiles; ++tile) {
    CHECK(whole[tile].max == summaries[tile].max && whole[tile].sum == summaries[tile].sum);
  }
  answers.note("scan_sums max", answers.max.data(), tiles);
  answers.note("scan_sums sum", answers.sums.data(), tiles);

  Guarded<double> cut(tiles);
  kernels.cut_sums(row, scale, all, summaries.data(), cutoff, cut.data());
  answers.cut_sums.assign(cut.data(), cut.data() + tiles);
  answers.note("cut_sums", cut.data(), tiles);
  answers.kept = kernels.count_kept(row, all, summaries.data(), cutoff);
  answers.note("count_kept", &answers.kept, 1);

  check_near_max(kernels, row, summaries.data(), ceiling - floor);

  Guarded<Candidate> found(kTile + kTile / 2);
  for (std::int64_t tile = 0; tile < static_cast<std::int64_t>(tiles);) {
    const std::int64_t count =
        kernels.collect(row, summaries.data(), floor, ceiling, &tile, found.data(), kTile + kTile / 2);
    answers.collected.insert(answers.collected.end(), found.data(), found.data() + count);
  }
  answers.note("collect", answers.collected.data(), answers.collected.size());

  Guarded<float> tile_scores(kTile);
  Guarded<float> lanes(kLanes);
  Guarded<float> weights(vocab);
  Guarded<float> scores(vocab);
  for (std::size_t tile = 0; tile < tiles; ++tile) {
    kernels.tile_scores(row, static_cast<std::int64_t>(tile), tile_scores.data());
    answers.note("tile_scores", tile_scores.data(), kTile);
    const std::size_t begin = tile * kTile;
    std::copy_n(tile_scores.data(), std::min<std::size_t>(kTile, vocab - begin), scores.data() + begin);
    if (answers.max[tile] == -HUGE_VALF) continue;
    const WeightConstants constants = weight_constants(reference_of(answers.max[tile], scale), scale);
    const Cutoff inside{cutoff.score, cutoff.token - static_cast<std::int64_t>(begin)};
    kernels.lane_sums(tile_scores.data(), kTile, constants, inside, lanes.data());
    answers.note("lane_sums", lanes.data(), kLanes);
    note_residual(kernels, row, static_cast<std::int64_t>(tile), constants, cutoff, answers);
  }
  answers.scores.assign(scores.data(), scores.data() + vocab);
  answers.at_least = kernels.count_at_least(scores.data(), row.vocab, floor);
  answers.note("count_at_least", &answers.at_least, 1);

  const float row_max = *std::max_element(answers.max.begin(), answers.max.end());
  if (row_max == -HUGE_VALF) return answers;
  kernels.weights(scores.data(), row.vocab, weight_constants(reference_of(row_max, scale), scale), weights.data());
  answers.note("weights", weights.data(), vocab);
  Guarded<float> out(vocab);
  kernels.write_scores(row, cutoff, static_cast<double>(row_max), 1.0 / temperature, 0.5, out.data());
  answers.logprobs.assign(out.data(), out.data() + vocab);
  answers.note("write_scores", out.data(), vocab);
  std::vector<double> factors(tiles);
  for (std::size_t tile = 0; tile < tiles; ++tile) factors[tile] = 1.0 / static_cast<double>(tile + 3);
  kernels.write_probs(row, scale, summaries.data(), cutoff, factors.data(), out.data());
  answers.probs.assign(out.data(), out.data() + vocab);
  answers.note("write_probs", out.data(), vocab);
  note_losses(kernels, question, summaries.data(), factors, answers);
  return answers;
}

void check_same(const std::string& isa, const std::string& name, const Answers& scalar, const Answers& other) {
  CHECK_EQUAL(other.bytes.size(), scalar.bytes.size());
  for (std::size_t i = 0; i < std::min(scalar.bytes.size(), other.bytes.size()); ++i) {
    CHECK_WITH(other.bytes[i] == scalar.bytes[i], isa + " " + scalar.bytes[i].first + " of " + name);
  }
}

// ---- the same by plain loops ------------------------------------------------------------------------------

/// The weight of a tile in its own units, up to the contract's tolerance; only where the temperature is ordinary.
void check_sum(double actual, const Values& kept, float tile_max, double temperature, const std::string& name) {
  const Scale scale = make_scale(temperature);
  const TileReference reference = reference_of(tile_max, scale);
  long double exact = 0.0L;
  for (const float score : kept) {
    exact += std::exp2((static_cast<long double>(score) - static_cast<long double>(reference.base)) *
                           1.442695040888963407359924681L / static_cast<long double>(temperature) -
                       static_cast<long double>(reference.exponent));
  }
  const auto error = static_cast<double>(std::fabs(static_cast<long double>(actual) - exact));
  CHECK_WITH(error <= 0x1p-20 * static_cast<double>(exact) + 0x1p-115, name + " " + test::shown(actual));
}

void check_values(const Question& question, const Values& logits, const Answers& answers, const std::string& name) {
  const Values scores = scores_of(question.row, logits);
  CHECK_WITH(scores == answers.scores, "tile_scores of " + name);
  const double total = std::accumulate(scores.begin(), scores.end(), 0.0);
  const double largest = std::accumulate(scores.begin(), scores.end(), 0.0, [](double sum, float score) {
    return sum + std::fabs(static_cast<double>(score));
  });
  const bool near = std::fabs(answers.total - total) <= 1e-12 * largest;
  CHECK_WITH(answers.probs.empty() || near || answers.total == total, "sum_scores of " + name);
  std::int64_t kept = 0;
  std::int64_t at_least = 0;
  std::vector<Candidate> collected;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const auto token = static_cast<std::int64_t>(i);
    const bool keep = keeps(question.cutoff, scores[i], token);
    kept += keep;
    at_least += scores[i] >= question.floor;
    if (scores[i] >= question.floor && scores[i] <= question.ceiling) {
      collected.push_back({scores[i], static_cast<std::int32_t>(i)});
    }
    if (answers.probs.empty()) continue;
    CHECK_EQUAL(answers.logprobs[i] == -HUGE_VALF, !keep);
    CHECK_WITH(keep || answers.probs[i] == 0.0f, "write_probs of " + name);
  }
  CHECK_WITH(answers.kept == kept, "count_kept of " + name);
  CHECK_WITH(answers.at_least == at_least, "count_at_least of " + name);
  const bool same = std::equal(collected.begin(), collected.end(), answers.collected.begin(), answers.collected.end(),
                               [](Candidate a, Candidate b) { return a.score == b.score && a.token == b.token; });
  CHECK_WITH(same, "collect of " + name);
  for (std::size_t tile = 0; tile < answers.max.size(); ++tile) {
    const std::size_t begin = tile * kTile;
    const std::size_t end = std::min(scores.size(), begin + kTile);
    const float max = *std::max_element(scores.data() + begin, scores.data() + end);
    CHECK_WITH(answers.max[tile] == max, "maximum of " + name);
    if (max == -HUGE_VALF) continue;
    if (question.temperature < 0.1 || question.temperature > 10.0 || std::fabs(max) > 1e6f) continue;
    Values all;
    Values cut;
    for (std::size_t i = begin; i < end; ++i) {
      if (scores[i] == -HUGE_VALF) continue;
      all.push_back(scores[i]);
      if (keeps(question.cutoff, scores[i], static_cast<std::int64_t>(i))) cut.push_back(scores[i]);
    }
    check_sum(answers.sums[tile], all, max, question.temperature, "scan_sums of " + name);
    check_sum(answers.cut_sums[tile], cut, max, question.temperature, "cut_sums of " + name);
  }
}

// ---- tests ------------------------------------------------------------------------------------------------

const std::array<const char*, 7> kEdits{"none", "mask", "bits", "short bits", "bias", "token bias", "all"};
const std::array<double, 5> kTemperatures{0.7, 1.0, 3.0, 1e-20, 1e20};

/// A cutoff at a random token, at the row's last place, or none; its score is finite.
Cutoff random_cutoff(const Values& scores, test::Random& random) {
  const auto token = random.below(static_cast<std::int64_t>(scores.size()));
  const float score = scores[static_cast<std::size_t>(token)];
  if (!std::isfinite(score) || random.below(5) == 0) return kKeepFinite;
  const Candidate place{score, static_cast<std::int32_t>(token)};
  return random.below(2) == 0 ? through(place) : up_to(place);
}

void check_kernels(Dtype dtype) {
  test::Random random(static_cast<std::uint64_t>(dtype) + 100);
  const auto& isas = cpu::supported_isas();
  std::size_t turn = 0;
  for (const std::int64_t size : kSizes) {
    for (const auto& [kind, values] : rows_of(size)) {
      for (const char* edit : kEdits) {
        const bool at_end = turn % 4 != 0;
        const double temperature = kTemperatures[turn++ % kTemperatures.size()];
        const Row row(values, dtype, at_end);
        const Edits edits(edit, size, at_end);
        Question question{row.view(), temperature, kKeepFinite, -FLT_MAX, FLT_MAX};
        edits.apply_to(question.row);
        const Values scores = scores_of(question.row, row.values());
        question.cutoff = random_cutoff(scores, random);
        question.floor = question.cutoff.score;
        if (random.below(2) == 0) question.ceiling = *std::max_element(scores.begin(), scores.end());
        const std::string name =
            kind + ", " + edit + ", vocab " + test::shown(size) + ", T " + test::shown(temperature);
        const Answers scalar = ask(*isas.front().kernels, question);
        CHECK_WITH(scalar.maxima_valid && scalar.sums_valid, name);
        if (!scalar.sums_valid) continue;
        check_values(question, row.values(), scalar, name);
        for (std::size_t i = 1; i < isas.size(); ++i) {
          check_same(isas[i].name, name, scalar, ask(*isas[i].kernels, question));
        }
      }
    }
  }
}

TEST(kernels_of_float32_rows) { check_kernels(Dtype::kFloat32); }
TEST(kernels_of_float16_rows) { check_kernels(Dtype::kFloat16); }
TEST(kernels_of_bfloat16_rows) { check_kernels(Dtype::kBfloat16); }
TEST(kernels_of_float64_rows) { check_kernels(Dtype::kFloat64); }

/// Whether every table calls the row invalid, under every edit.
void check_invalid(const Values& values, Dtype dtype, const std::string& name) {
  const auto size = static_cast<std::int64_t>(values.size());
  const Row row(values, dtype, true);
  for (const char* edit : kEdits) {
    const Edits edits(edit, size, true);
    Question question{row.view(), 1.0, kKeepFinite, 0.0f, 0.0f};
    edits.apply_to(question.row);
    for (const cpu::Isa& isa : cpu::supported_isas()) {
      const Answers answers = ask(*isa.kernels, question);
      CHECK_WITH(!answers.maxima_valid && !answers.sums_valid,
                 std::string(isa.name) + " " + edit + " " + test::shown(size) + " " + name);
    }
  }
}

constexpr std::array<Dtype, kLogitDtypes> kDtypes{Dtype::kFloat32, Dtype::kFloat16, Dtype::kBfloat16, Dtype::kFloat64};

// One NaN or +inf, anywhere in a row, edited or not, masked or not.
TEST(kernels_see_every_invalid_logit) {
  for (const Dtype dtype : kDtypes) {
    for (const std::int64_t size : {1, 5, 16, 33, 1024, 1061, 2100}) {
      for (const std::int64_t place : {std::int64_t{0}, size / 3, size / 2, size - 1}) {
        for (const float bad : {std::nanf(""), HUGE_VALF}) {
          Values values = filled(size, -1.0f);
          values[static_cast<std::size_t>(place)] = bad;
          check_invalid(values, dtype, test::shown(place));
        }
      }
    }
  }
}

// Where its tile holds nothing else that is finite, only NaN, or scores that are their own base.
TEST(kernels_see_nan_in_unusual_tiles) {
  for (const Dtype dtype : kDtypes) {
    for (const float other : {-HUGE_VALF, std::nanf(""), 6e4f}) {
      for (const std::size_t tile : {std::size_t{0}, std::size_t{1}, std::size_t{2}}) {
        Values values = filled(2100, -1.0f);
        const auto begin = values.begin() + static_cast<std::ptrdiff_t>(tile * kTile);
        std::fill(begin, std::min(begin + kTile, values.end()), other);
        *(begin + 40) = std::nanf("");
        check_invalid(values, dtype, test::shown(other));
      }
    }
  }
}

TEST(an_isa_is_chosen_by_its_name) {
  CHECK_EQUAL(std::string(cpu::supported_isas().front().name), std::string("scalar"));
  for (const cpu::Isa& isa : cpu::supported_isas()) {
    cpu::select_isa(isa.name);
    CHECK(cpu::active_isa().kernels == isa.kernels);
  }
  const std::string message = test::message_of<std::invalid_argument>([] { cpu::select_isa("sse9"); });
  CHECK(message.rfind("TOKENDRAW_ISA must be one of scalar", 0) == 0);
  CHECK(message.find("got sse9") != std::string::npos);
}

}  // namespace
