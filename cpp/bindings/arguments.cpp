// SPDX-License-Identifier: Apache-2.0
#include "bindings/arguments.h"

#include <string>

#include "bindings/values.h"

namespace tokendraw::bindings {
namespace {

constexpr std::array<const char*, kKeywords> kNames{
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "epsilon_cutoff",
    "eta_cutoff",
    "top_n_sigma",
    "xtc_probability",
    "xtc_threshold",
    "repetition_penalty",
    "frequency_penalty",
    "presence_penalty",
    "dry_multiplier",
    "dry_base",
    "dry_allowed_length",
    "dry_last_n",
    "dry_breakers",
    "min_tokens",
    "eos_token_id",
    "steps",
    "top_k_ties",
    "top_p_boundary",
    "top_p_ties",
    "top_p_mass",
    "penalty_history",
    "mask",
    "bias",
    "history",
    "prompt_lengths",
    "params",
    "on_invalid",
    "threads",
    "out",
    "seed",
    "stream",
    "step",
    "logprobs",
    "logits",
    "k",
    "scores",
    "search",
    "scorer",
    "draft_tokens",
    "draft_logits",
    "target_logits",
    "parents",
    "replacement",
    "tokens",
    "ranks",
    "reduction",
    "ignore_index",
    "label_smoothing",
    "gradient",
    "scale",
    "other_logits",
};

}  // namespace

const char* KeywordNames::text(Keyword keyword) { return kNames[static_cast<std::size_t>(keyword)]; }

KeywordNames::KeywordNames() {
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    names_[i] = PyUnicode_InternFromString(kNames[i]);
    if (names_[i] == nullptr) throw py::error_already_set();
  }
}

KeywordNames::~KeywordNames() {
  for (PyObject* name : names_) Py_XDECREF(name);
}

int KeywordNames::find(PyObject* name) const {
  for (int keyword = 0; keyword < kKeywords; ++keyword) {
    if (names_[static_cast<std::size_t>(keyword)] == name) return keyword;
  }
  // A name that was built at run time is equal without being the interned object.
  for (int keyword = 0; keyword < kKeywords; ++keyword) {
    if (PyUnicode_Compare(names_[static_cast<std::size_t>(keyword)], name) == 0) return keyword;
  }
  return -1;
}

Arguments::Arguments(const KeywordNames& names, const Signature& signature, PyObject* const* values, Py_ssize_t count,
                     PyObject* keyword_names)
    : names_(names) {
  const auto function = [&] { return std::string(signature.function); };
  if (static_cast<std::size_t>(count) > signature.positional.size()) {
    type_error(function() + "() takes " + std::to_string(signature.positional.size()) + " positional arguments but " +
               std::to_string(count) + " were given");
  }
  KeywordSet seen = 0;
  const auto put = [&](Keyword keyword, PyObject* value) {
    if ((seen & set_of(keyword)) != 0) {
      type_error(function() + "() got multiple values for argument '" + KeywordNames::text(keyword) + "'");
    }
    seen |= set_of(keyword);
    values_[static_cast<std::size_t>(keyword)] = value == Py_None ? nullptr : value;
  };
  for (Py_ssize_t i = 0; i < count; ++i) put(signature.positional[static_cast<std::size_t>(i)], values[i]);

  KeywordSet allowed = signature.keywords;
  for (const Keyword keyword : signature.positional) allowed |= set_of(keyword);
  const Py_ssize_t keywords = keyword_names ? PyTuple_GET_SIZE(keyword_names) : 0;
  for (Py_ssize_t i = 0; i < keywords; ++i) {
    PyObject* name = PyTuple_GET_ITEM(keyword_names, i);
    const int keyword = names.find(name);
    if (keyword < 0 || (allowed & set_of(static_cast<Keyword>(keyword))) == 0) {
      type_error(function() + "() got an unexpected keyword argument " + repr_of(name));
    }
    put(static_cast<Keyword>(keyword), values[count + i]);
  }
  for (const Keyword keyword : signature.positional) {
    if (((seen | signature.optional) & set_of(keyword)) != 0) continue;
    type_error(function() + "() missing required argument '" + KeywordNames::text(keyword) + "'");
  }
}

}  // namespace tokendraw::bindings
