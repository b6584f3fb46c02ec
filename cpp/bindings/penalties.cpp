// SPDX-License-Identifier: Apache-2.0
#include "bindings/penalties.h"

#include <algorithm>
#include <array>
#include <string>

#include "bindings/values.h"
#include "plan/plan.h"
#include "plan/unsupported.h"

namespace tokendraw::bindings {
namespace {

py::object numpy() { return py::module_::import("numpy"); }

/// Whole numbers one after another, from a sequence or an integer array, or one number where `one` says so.
void read_integers(py::handle value, const char* name, bool one, std::vector<std::int64_t>& out) {
  const bool plain = PyIndex_Check(value.ptr()) && !PyBool_Check(value.ptr());
  if (one && plain && !PySequence_Check(value.ptr())) {
    out.push_back(parse_index(value, name));
    return;
  }
  if (PyList_Check(value.ptr()) || PyTuple_Check(value.ptr())) {
    for (const py::handle item : py::reinterpret_borrow<py::sequence>(value)) {
      if (!PyIndex_Check(item.ptr()) || PyBool_Check(item.ptr())) {
        type_error(std::string(name) + " must hold token ids, got " + type_name(item));
      }
      out.push_back(parse_index(item, name));
    }
    return;
  }
  const py::object array = numpy().attr("asarray")(value);
  const auto kind = array.attr("dtype").attr("kind").cast<std::string>();
  if (kind != "i" && kind != "u") {
    const bool array_like = py::hasattr(value, "__array__") || py::hasattr(value, "__dlpack__");
    type_error(std::string(name) + " must hold token ids, got " +
               (array_like ? "an array of " + py::str(array.attr("dtype")).cast<std::string>() : type_name(value)));
  }
  const py::object contiguous = numpy().attr("ascontiguousarray")(array, "int64");
  const ArrayView view = view_array(contiguous, name);
  const auto* data = static_cast<const std::int64_t*>(view.data);
  out.insert(out.end(), data, data + contiguous.attr("size").cast<std::int64_t>());
}

void parse_token_list(py::handle value, const char* name, bool one, std::vector<std::int32_t>& out) {
  if (!value) return;
  std::vector<std::int64_t> tokens;
  read_integers(value, name, one, tokens);
  for (const std::int64_t token : tokens) {
    check_token(name, token, INT32_MAX, "");
    out.push_back(static_cast<std::int32_t>(token));
  }
}

void parse_penalty_history(py::handle value, PenaltyParams& params) {
  if (!value) return;
  const std::array<Past*, 4> pasts{&params.repetition_past, &params.frequency_past, &params.presence_past,
                                   &params.dry_past};
  const auto past_of = [](py::handle name) {
    return parse_choice(name, "penalty_history", {"all", "output"}) == 0 ? Past::kAll : Past::kOutput;
  };
  if (!PyMapping_Check(value.ptr()) || PySequence_Check(value.ptr())) {
    for (Past* past : pasts) *past = past_of(value);
    return;
  }
  for (const py::handle item : value.attr("items")()) {
    const auto pair = py::reinterpret_borrow<py::tuple>(item);
    const std::size_t penalty =
        parse_choice(pair[0], "penalty_history", {"repetition", "frequency", "presence", "dry"});
    *pasts[penalty] = past_of(pair[1]);
  }
}

bool reads_output_only(const PenaltyParams& params) {
  return params.repetition_past == Past::kOutput || params.frequency_past == Past::kOutput ||
         params.presence_past == Past::kOutput || params.dry_past == Past::kOutput;
}

/// A list of lists, or of arrays, one per row; or the tokens of the only row.
bool is_ragged(py::handle value) {
  if (!PyList_Check(value.ptr()) && !PyTuple_Check(value.ptr())) return false;
  const auto items = py::reinterpret_borrow<py::sequence>(value);
  return items.size() > 0 && !PyIndex_Check(py::object(items[0]).ptr());
}

using TokenIterator = std::vector<std::int64_t>::const_iterator;

void append_row(TokenIterator begin, TokenIterator end, std::int64_t row, ParsedRequest& parsed) {
  constexpr std::int64_t kPadding = -1;
  for (; begin != end; ++begin) {
    const std::int64_t token = *begin;
    if (token == kPadding) continue;
    check_token("history", token, parsed.vocab(), " (row " + std::to_string(row) + ")");
    parsed.history.push_back(static_cast<std::int32_t>(token));
  }
  parsed.history_offsets.push_back(static_cast<std::int64_t>(parsed.history.size()));
}

void check_rows(std::int64_t got, const ParsedRequest& parsed) {
  if (got == parsed.rows()) return;
  value_error("history must have one list per row (" + std::to_string(parsed.rows()) + "), got " + std::to_string(got));
}

void parse_ragged(py::handle value, ParsedRequest& parsed) {
  const auto rows = py::reinterpret_borrow<py::sequence>(value);
  check_rows(static_cast<std::int64_t>(rows.size()), parsed);
  std::vector<std::int64_t> tokens;
  for (std::size_t row = 0; row < rows.size(); ++row) {
    tokens.clear();
    read_integers(py::object(rows[row]), "history", false, tokens);
    append_row(tokens.begin(), tokens.end(), static_cast<std::int64_t>(row), parsed);
  }
}

/// Leading axes of an array, multiplied; a list of token ids is one row, an empty list none.
std::int64_t rows_of(py::handle value, std::size_t tokens) {
  if (PyList_Check(value.ptr()) || PyTuple_Check(value.ptr())) return tokens == 0 ? 0 : 1;
  const auto shape = py::tuple(numpy().attr("shape")(value));
  std::int64_t rows = 1;
  for (std::size_t axis = 0; axis + 1 < shape.size(); ++axis) rows *= shape[axis].cast<std::int64_t>();
  return rows;
}

void parse_matrix(py::handle value, ParsedRequest& parsed) {
  if (PyIndex_Check(value.ptr()) && !PySequence_Check(value.ptr())) {
    type_error("history must hold one list of token ids per row, got " + type_name(value));
  }
  std::vector<std::int64_t> tokens;
  read_integers(value, "history", false, tokens);
  const std::int64_t rows = rows_of(value, tokens.size());
  const bool is_empty_row = rows == 0 && parsed.rows() == 1;
  if (!is_empty_row) check_rows(rows, parsed);
  const std::int64_t width = rows == 0 ? 0 : static_cast<std::int64_t>(tokens.size()) / rows;
  for (std::int64_t row = 0; row < parsed.rows(); ++row) {
    const auto begin = tokens.cbegin() + row * width;
    append_row(begin, begin + width, row, parsed);
  }
}

}  // namespace

GivenParams::GivenParams(const Arguments& arguments) : arguments_(arguments) {
  if (!arguments.has(kKeyParams)) return;
  const py::handle params = arguments[kKeyParams];
  of_params_ = py::reinterpret_steal<py::object>(PyObject_GetAttrString(params.ptr(), "_given"));
  if (of_params_ && PyDict_Check(of_params_.ptr())) return;
  if (!of_params_ && !PyErr_ExceptionMatches(PyExc_AttributeError)) throw py::error_already_set();
  PyErr_Clear();
  type_error("params must be a SamplingParams, got " + type_name(params));
}

py::handle GivenParams::operator[](Keyword keyword) const {
  if (arguments_.has(keyword) || !of_params_) return arguments_[keyword];
  PyObject* value = PyDict_GetItemWithError(of_params_.ptr(), arguments_.names()[keyword]);
  if (value == nullptr && PyErr_Occurred()) throw py::error_already_set();
  return value == Py_None ? py::handle() : py::handle(value);
}

std::size_t parse_choice(py::handle value, const char* name, std::initializer_list<const char*> names) {
  if (!value) return 0;
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (PyUnicode_Check(value.ptr()) && PyUnicode_CompareWithASCIIString(value.ptr(), names.begin()[i]) == 0) return i;
  }
  std::string listed;
  for (std::size_t i = 0; i < names.size(); ++i) {
    listed += std::string(i == 0 ? "\"" : i + 1 == names.size() ? " or \"" : ", \"") + names.begin()[i] + "\"";
  }
  const std::string message = std::string(name) + " must be " + listed + ", got " + repr_of(value);
  if (!PyUnicode_Check(value.ptr())) type_error(message);
  value_error(message);
}

void parse_penalties(const GivenParams& given, std::int64_t rows, ParsedRequest& parsed) {
  PenaltyParams& params = parsed.request.penalties;
  const DeviceInput device{parsed.home, parsed.views};
  const auto read = [&](Keyword keyword, auto& parameter, auto& pool) {
    parse_per_row(given[keyword], KeywordNames::text(keyword), rows, parameter, pool, &device);
  };
  read(kKeyRepetitionPenalty, params.repetition, parsed.reals);
  read(kKeyFrequencyPenalty, params.frequency, parsed.reals);
  read(kKeyPresencePenalty, params.presence, parsed.reals);
  read(kKeyDryMultiplier, params.dry_multiplier, parsed.reals);
  read(kKeyDryBase, params.dry_base, parsed.reals);
  read(kKeyDryAllowedLength, params.dry_allowed_length, parsed.integers);
  read(kKeyDryLastN, params.dry_last_n, parsed.integers);
  read(kKeyMinTokens, params.min_tokens, parsed.integers);
  parse_token_list(given[kKeyDryBreakers], "dry_breakers", false, params.dry_breakers);
  parse_token_list(given[kKeyEosTokenId], "eos_token_id", true, params.eos_tokens);
  parse_penalty_history(given[kKeyPenaltyHistory], params);
}

void parse_history(const Arguments& arguments, ParsedRequest& parsed) {
  History& history = parsed.request.history;
  parse_per_row(arguments[kKeyPromptLengths], "prompt_lengths", parsed.rows(), history.prompt_lengths, parsed.integers);
  const py::handle value = arguments[kKeyHistory];
  if (value && is_on_cuda(value)) refuse_on_device("history on the device");
  if (value && reads_output_only(parsed.request.penalties) && !arguments.has(kKeyPromptLengths)) {
    value_error("prompt_lengths must be given where penalty_history is \"output\"");
  }
  if (value) {
    parsed.history_offsets.push_back(0);
    if (is_ragged(value)) {
      parse_ragged(value, parsed);
    } else {
      parse_matrix(value, parsed);
    }
    history.tokens = parsed.history.data();
    history.offsets = parsed.history_offsets.data();
  }
  check_tokens(history, parsed.request.penalties, parsed.vocab());
}

}  // namespace tokendraw::bindings
