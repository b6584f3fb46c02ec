// SPDX-License-Identifier: Apache-2.0
// Calls with many keywords, taken apart without building a tuple or a dict.
// Here because 22 keywords through pybind11 cost 6.7 microseconds a call, and this a quarter of one.
#pragma once

#include <pybind11/pybind11.h>

#include <array>
#include <cstdint>
#include <vector>

namespace tokendraw::bindings {

namespace py = pybind11;

/// Every keyword of every hot function. The fields of SamplingParams come first.
enum Keyword : int {
  kKeyTemperature,
  kKeyTopK,
  kKeyTopP,
  kKeyMinP,
  kKeyTypicalP,
  kKeyEpsilonCutoff,
  kKeyEtaCutoff,
  kKeyTopNSigma,
  kKeyXtcProbability,
  kKeyXtcThreshold,
  kKeyRepetitionPenalty,
  kKeyFrequencyPenalty,
  kKeyPresencePenalty,
  kKeyDryMultiplier,
  kKeyDryBase,
  kKeyDryAllowedLength,
  kKeyDryLastN,
  kKeyDryBreakers,
  kKeyMinTokens,
  kKeyEosTokenId,
  kKeySteps,
  kKeyTopKTies,
  kKeyTopPBoundary,
  kKeyTopPTies,
  kKeyTopPMass,
  kKeyPenaltyHistory,
  kKeyMask,
  kKeyBias,
  kKeyHistory,
  kKeyPromptLengths,
  kKeyParams,
  kKeyOnInvalid,
  kKeyThreads,
  kKeyOut,
  kKeySeed,
  kKeyStream,
  kKeyStep,
  kKeyLogprobs,
  kKeyLogits,
  kKeyK,
  kKeyScores,
  kKeySearch,
  kKeyScorer,
  kKeyDraftTokens,
  kKeyDraftLogits,
  kKeyTargetLogits,
  kKeyParents,
  kKeyReplacement,
  kKeyTokens,
  kKeyRanks,
  kKeyReduction,
  kKeyIgnoreIndex,
  kKeyLabelSmoothing,
  kKeyGradient,
  kKeyScale,
  kKeyOtherLogits,
  kKeywords,
};

using KeywordSet = std::uint64_t;

constexpr KeywordSet set_of(Keyword keyword) { return KeywordSet{1} << keyword; }

/// All before the given one.
constexpr KeywordSet set_before(Keyword keyword) { return set_of(keyword) - 1; }

inline constexpr KeywordSet kParamsKeywords = set_before(kKeyMask);
inline constexpr KeywordSet kDrawKeywords = set_of(kKeySeed) | set_of(kKeyStream) | set_of(kKeyStep);
inline constexpr KeywordSet kFilterKeywords = set_before(kKeyOnInvalid) | kDrawKeywords;
inline constexpr KeywordSet kCallKeywords = set_of(kKeyOnInvalid) | set_of(kKeyThreads);

/// The interned names of the keywords; made once per module and owned by it.
class KeywordNames {
 public:
  KeywordNames();
  ~KeywordNames();
  KeywordNames(const KeywordNames&) = delete;
  KeywordNames& operator=(const KeywordNames&) = delete;

  /// As C text, for messages.
  static const char* text(Keyword keyword);

  PyObject* operator[](int keyword) const { return names_[static_cast<std::size_t>(keyword)]; }
  /// The keyword of a name, or -1.
  int find(PyObject* name) const;

 private:
  std::array<PyObject*, kKeywords> names_{};
};

/// What a function accepts: `positional` in this order first, then keywords only.
struct Signature {
  const char* function;
  std::vector<Keyword> positional;
  KeywordSet keywords;
  KeywordSet optional = 0;  // positional ones that may be left out
};

/// The arguments of one call, borrowed; null where not given or None.
class Arguments {
 public:
  Arguments(const KeywordNames& names, const Signature& signature, PyObject* const* values, Py_ssize_t count,
            PyObject* keyword_names);

  py::handle operator[](Keyword keyword) const { return values_[static_cast<std::size_t>(keyword)]; }
  bool has(Keyword keyword) const { return values_[static_cast<std::size_t>(keyword)] != nullptr; }
  const KeywordNames& names() const { return names_; }

 private:
  const KeywordNames& names_;
  std::array<PyObject*, kKeywords> values_{};
};

}  // namespace tokendraw::bindings
