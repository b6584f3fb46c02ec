// SPDX-License-Identifier: Apache-2.0
#include "bindings/requests.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "bindings/penalties.h"
#include "bindings/values.h"
#include "cpu/threads.h"
#include "plan/entropy.h"
#include "plan/plan.h"
#include "plan/unsupported.h"

namespace tokendraw::bindings {
namespace {

constexpr int kMaxDeviceAxes = 8;

std::string shape_text(const std::int64_t* shape, std::size_t ndim) {
  std::string text = "[";
  for (std::size_t axis = 0; axis < ndim; ++axis) text += (axis ? ", " : "") + std::to_string(shape[axis]);
  return text + "]";
}

// ---- matrices ---------------------------------------------------------------------------------------------

/// A copy of the elements in C order.
void make_contiguous(ArrayView& view, std::vector<py::object>& owners) {
  std::int64_t count = 1;
  for (int axis = 0; axis < view.ndim; ++axis) count *= view.shape[axis];
  const auto size = static_cast<std::int64_t>(size_of(view.dtype));
  const auto bytes = static_cast<std::size_t>(count * size);
  const py::bytes buffer =
      py::reinterpret_steal<py::bytes>(PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(bytes)));
  if (!buffer) throw py::error_already_set();
  char* out = PyBytes_AS_STRING(buffer.ptr());
  std::vector<std::int64_t> index(static_cast<std::size_t>(view.ndim));
  const auto* data = static_cast<const char*>(view.data);
  for (std::int64_t i = 0; i < count; ++i) {
    std::int64_t offset = 0;
    for (int axis = 0; axis < view.ndim; ++axis) offset += index[static_cast<std::size_t>(axis)] * view.strides[axis];
    std::memcpy(out + i * size, data + offset * size, static_cast<std::size_t>(size));
    for (int axis = view.ndim; axis-- > 0;) {
      if (++index[static_cast<std::size_t>(axis)] < view.shape[axis]) break;
      index[static_cast<std::size_t>(axis)] = 0;
    }
  }
  std::int64_t stride = 1;
  for (int axis = view.ndim; axis-- > 0;) {
    view.strides[axis] = stride;
    stride *= view.shape[axis];
  }
  view.data = out;
  owners.push_back(buffer);
}

bool has_contiguous_rows(const ArrayView& view) {
  const int last = view.ndim - 1;
  return view.shape[last] <= 1 || view.strides[last] == 1;
}

/// The one stride that leads from row to row in C order, or -1 where there is none.
std::int64_t row_stride(const ArrayView& view) {
  std::int64_t stride = -1;
  std::int64_t step = 0;
  for (int axis = view.ndim - 1; axis-- > 0;) {
    if (view.shape[axis] == 1) continue;
    if (stride < 0) {
      if (view.strides[axis] < 0) return -1;
      stride = view.strides[axis];
      step = stride;
    } else if (view.strides[axis] != step) {
      return -1;
    }
    step *= view.shape[axis];
  }
  return std::max<std::int64_t>(stride, 0);
}

/// From row to row, and from position to position; 0 where one serves all.
struct Strides {
  std::int64_t row;
  std::int64_t position;
};

[[noreturn]] void refuse_strides(const ArrayView& view, const char* name, const char* rule) {
  value_error(std::string(name) + " must have " + rule + " on a CUDA device, got strides " +
              shape_text(view.strides, static_cast<std::size_t>(view.ndim)));
}

/// An argument of shape [width], or of the rows' leading shape (or its flattening) and `width`, maybe by position.
Strides row_matrix(ArrayView& view, const char* name, const char* columns, std::int64_t width,
                   const ParsedRequest& parsed, std::vector<py::object>& owners) {
  std::int64_t rows = 1;
  for (int axis = 0; axis + 1 < view.ndim; ++axis) rows *= view.shape[axis];
  const bool one_row = view.ndim == 1;
  const bool one_position = rows == parsed.rows();
  const bool fits = view.ndim >= 1 && (width < 0 || view.shape[view.ndim - 1] == width) &&
                    (one_row || one_position || rows == parsed.rows() * parsed.positions);
  if (!fits) {
    const std::string by_position =
        parsed.positions == 1 ? "" : " or [rows, " + std::to_string(parsed.positions) + ", " + columns + "]";
    value_error(std::string(name) + " must have shape [" + columns + "] or [rows, " + columns + "]" + by_position +
                " for " + std::to_string(parsed.rows()) + " rows and a vocab of " + std::to_string(parsed.vocab()) +
                ", got " + shape_text(view.shape, static_cast<std::size_t>(view.ndim)));
  }
  if (!has_contiguous_rows(view) || row_stride(view) < 0) {
    if (view.cuda) refuse_strides(view, name, "one stride from row to row and a contiguous last axis");
    make_contiguous(view, owners);
  }
  if (one_row) return {0, 0};
  const std::int64_t stride = row_stride(view);
  if (one_position) return {stride, 0};
  return {stride * parsed.positions, stride};
}

// ---- logits, mask, bias -----------------------------------------------------------------------------------

void check_logits(const ArrayView& view, const std::string& name) {
  if (!is_logit_dtype(view.dtype)) {
    type_error(name + " must be float32, float16, bfloat16 or float64, got an array of integers");
  }
  if (view.ndim == 0) value_error(name + " must have at least one axis, got a scalar");
  const std::int64_t vocab = view.shape[view.ndim - 1];
  if (vocab == 0) value_error(name + " must have a vocab of at least 1, got 0");
  if (vocab > INT32_MAX) value_error(name + " must have a vocab below 2^31, got " + std::to_string(vocab));
}

}  // namespace

void parse_logits(py::handle value, const char* name, ParsedRequest& parsed) {
  if (!value) type_error(std::string(name) + " must be an array (NumPy, or anything with __dlpack__), got None");
  ArrayView& view = parsed.logits;
  view = view_array(value, name);
  check_logits(view, name);
  if (!has_contiguous_rows(view)) {
    if (view.cuda) refuse_strides(view, name, "a contiguous last axis");
    make_contiguous(view, parsed.owners);
  }
  if (view.cuda && view.ndim - 1 > kMaxDeviceAxes) {
    value_error(std::string(name) + " must have at most " + std::to_string(kMaxDeviceAxes) +
                " axes before the vocab on a CUDA device, got " + std::to_string(view.ndim - 1));
  }
  Logits& logits = parsed.request.logits;
  logits.data = view.data;
  logits.dtype = view.dtype;
  logits.vocab = view.shape[view.ndim - 1];
  logits.leading_shape.assign(view.shape, view.shape + view.ndim - 1);
  logits.leading_strides.assign(view.strides, view.strides + view.ndim - 1);
  logits.rows = 1;
  for (const std::int64_t extent : logits.leading_shape) logits.rows *= extent;
  parsed.leading_shape = logits.leading_shape;
  parsed.home = home_of(value, view);
  parsed.raise_invalid = !view.cuda;
}

void fold_positions(const char* name, ParsedRequest& parsed) {
  if (parsed.leading_shape.empty()) {
    value_error(std::string(name) + " must have at least two axes (positions, vocab), got one");
  }
  Logits& logits = parsed.request.logits;
  parsed.positions = parsed.leading_shape.back();
  logits.position_stride = logits.leading_strides.back();
  parsed.leading_shape.pop_back();
  logits.leading_strides.pop_back();
  logits.leading_shape = parsed.leading_shape;
  logits.rows = 1;
  for (const std::int64_t extent : logits.leading_shape) logits.rows *= extent;
}

namespace {

/// Spare bits of the last word are nobody's: a full mask is words of -1. Only a mask of more words means more tokens.
void check_bits_past_vocab(const Edits& edits, std::int64_t rows, std::int64_t positions, std::int64_t vocab) {
  if (edits.allowed_words <= (vocab + 31) / 32) return;
  if (edits.allowed_bits_stride == 0) rows = 1;
  if (edits.allowed_bits_position_stride == 0) positions = 1;
  for (std::int64_t place = 0; place < rows * positions; ++place) {
    const std::int64_t row = place / positions;
    const std::uint32_t* words =
        edits.allowed_bits + row * edits.allowed_bits_stride + place % positions * edits.allowed_bits_position_stride;
    for (std::int64_t word = vocab / 32; word < edits.allowed_words; ++word) {
      const std::uint32_t past = word == vocab / 32 ? words[word] >> (vocab % 32) << (vocab % 32) : words[word];
      if (past == 0) continue;
      value_error("mask must not allow a token past the vocab of " + std::to_string(vocab) + ", got token " +
                  std::to_string(word * 32 + __builtin_ctz(past)) + " (row " + std::to_string(row) + ")");
    }
  }
}

/// A mask or bias of the host serves logits on a device.
void check_edit_home(const ArrayView& view, const Home& home, const char* name) {
  if (view.cuda || !home.cuda) check_home(view, home, name);
}

template <class T>
void add_host_edit(const ArrayView& view, std::int64_t row_stride, const T** data, const char* name,
                   ParsedRequest& parsed) {
  if (view.cuda || !parsed.home.cuda) return;
  const std::int64_t rows = row_stride == 0 ? 1 : parsed.rows();
  const std::int64_t elements = (rows - 1) * row_stride + view.shape[view.ndim - 1];
  const auto bytes = static_cast<std::size_t>(std::max<std::int64_t>(elements, 0)) * sizeof(T);
  parsed.host_edits.push_back({reinterpret_cast<const void**>(data), bytes, name});
}

void parse_mask(py::handle value, ParsedRequest& parsed) {
  if (!value) return;
  ArrayView view = view_array(value, "mask");
  Edits& edits = parsed.request.edits;
  check_edit_home(view, parsed.home, "mask");
  if (view.dtype == Dtype::kBool) {
    const Strides strides = row_matrix(view, "mask", "vocab", parsed.vocab(), parsed, parsed.owners);
    edits.allowed_stride = strides.row;
    edits.allowed_position_stride = strides.position;
    edits.allowed = static_cast<const std::uint8_t*>(view.data);
    add_host_edit(view, strides.row, &edits.allowed, "mask", parsed);
  } else if (view.dtype == Dtype::kInt32 || view.dtype == Dtype::kUint32) {
    const Strides strides = row_matrix(view, "mask", "ceil(vocab / 32)", -1, parsed, parsed.owners);
    edits.allowed_bits_stride = strides.row;
    edits.allowed_bits_position_stride = strides.position;
    edits.allowed_bits = static_cast<const std::uint32_t*>(view.data);
    edits.allowed_words = view.shape[view.ndim - 1];
    if (!view.cuda) check_bits_past_vocab(edits, parsed.rows(), parsed.positions, parsed.vocab());
    add_host_edit(view, strides.row, &edits.allowed_bits, "mask", parsed);
  } else {
    type_error("mask must be bool, or int32 words of 32 tokens each, got another dtype");
  }
  parsed.views.push_back(std::move(view));
}

void parse_token_bias(py::handle value, ParsedRequest& parsed) {
  for (const auto& [token, bias] : py::reinterpret_borrow<py::dict>(value)) {
    if (!PyIndex_Check(token.ptr())) type_error("bias must have token ids as keys, got " + type_name(token));
    const std::int64_t id = parse_index(token, "bias");
    if (id < 0 || id >= parsed.vocab()) {
      value_error("bias must have tokens in [0, " + std::to_string(parsed.vocab()) + "), got " + std::to_string(id));
    }
    parsed.token_bias.push_back({static_cast<std::int32_t>(id), static_cast<float>(parse_real(bias))});
  }
  std::sort(parsed.token_bias.begin(), parsed.token_bias.end(),
            [](const TokenBias& a, const TokenBias& b) { return a.token < b.token; });
  parsed.request.edits.token_bias = parsed.token_bias.empty() ? nullptr : parsed.token_bias.data();
  parsed.request.edits.token_bias_count = static_cast<std::int64_t>(parsed.token_bias.size());
}

void parse_dense_bias(py::handle value, ParsedRequest& parsed) {
  ArrayView view = view_array(value, "bias");
  check_edit_home(view, parsed.home, "bias");
  if (!is_logit_dtype(view.dtype)) type_error("bias must be a dict or an array of floats, got an array of integers");
  if (view.dtype != Dtype::kFloat32) {
    if (view.cuda) type_error("bias must be float32 on a CUDA device, got another dtype");
    const py::object floats = py::module_::import("numpy").attr("asarray")(value).attr("astype")("float32");
    parsed.owners.push_back(floats);
    view = view_array(floats, "bias");
  }
  const Strides strides = row_matrix(view, "bias", "vocab", parsed.vocab(), parsed, parsed.owners);
  parsed.request.edits.bias_stride = strides.row;
  parsed.request.edits.bias_position_stride = strides.position;
  parsed.request.edits.bias = static_cast<const float*>(view.data);
  add_host_edit(view, strides.row, &parsed.request.edits.bias, "bias", parsed);
  parsed.views.push_back(std::move(view));
}

/// What can be read here.
Edits edits_on_host(const ParsedRequest& parsed) {
  Edits edits = parsed.request.edits;
  const bool is_here = std::any_of(parsed.host_edits.begin(), parsed.host_edits.end(),
                                   [&](const HostEdit& edit) { return *edit.data == edits.bias; });
  if (parsed.home.cuda && !is_here) edits.bias = nullptr;
  return edits;
}

void parse_bias(py::handle value, ParsedRequest& parsed) {
  if (!value) return;
  if (PyDict_Check(value.ptr())) {
    parse_token_bias(value, parsed);
  } else {
    parse_dense_bias(value, parsed);
  }
}

// ---- parameters -------------------------------------------------------------------------------------------

StepOrder parse_step_order(py::handle value) {
  if (!value) return {};
  if (PyUnicode_Check(value.ptr()) || !PySequence_Check(value.ptr())) {
    type_error("steps must be a sequence of names of steps, got " + type_name(value));
  }
  std::vector<std::string> names;
  for (const py::handle name : py::reinterpret_borrow<py::sequence>(value)) {
    if (!PyUnicode_Check(name.ptr())) type_error("steps must be names of steps, got " + type_name(name));
    names.push_back(name.cast<std::string>());
  }
  return parse_steps(names);
}

void parse_rules(const GivenParams& given, FilterParams& params) {
  const auto choice = [&](Keyword keyword, std::initializer_list<const char*> names) {
    return parse_choice(given[keyword], KeywordNames::text(keyword), names);
  };
  params.steps = parse_step_order(given[kKeySteps]);
  params.top_k_all_ties = choice(kKeyTopKTies, {"exact", "all"}) == 1;
  params.top_p_exceeds = choice(kKeyTopPBoundary, {"reach", "exceed"}) == 1;
  params.top_p_ties = static_cast<Ties>(choice(kKeyTopPTies, {"lowest", "highest", "all"}));
  params.top_p_of_original = choice(kKeyTopPMass, {"left", "original"}) == 1;
}

void parse_filters(const Arguments& arguments, std::int64_t rows, ParsedRequest& parsed) {
  FilterParams& params = parsed.request.params;
  const GivenParams given(arguments);
  const DeviceInput device{parsed.home, parsed.views};
  const auto read = [&](Keyword keyword, auto& parameter, auto& pool) {
    parse_per_row(given[keyword], KeywordNames::text(keyword), rows, parameter, pool, &device);
  };
  read(kKeyTemperature, params.temperature, parsed.reals);
  read(kKeyTopK, params.top_k, parsed.integers);
  read(kKeyTopP, params.top_p, parsed.reals);
  read(kKeyMinP, params.min_p, parsed.reals);
  read(kKeyTypicalP, params.typical_p, parsed.reals);
  read(kKeyEpsilonCutoff, params.epsilon_cutoff, parsed.reals);
  read(kKeyEtaCutoff, params.eta_cutoff, parsed.reals);
  read(kKeyTopNSigma, params.top_n_sigma, parsed.reals);
  read(kKeyXtcProbability, params.xtc_probability, parsed.reals);
  read(kKeyXtcThreshold, params.xtc_threshold, parsed.reals);
  parse_rules(given, params);
  parse_penalties(given, rows, parsed);
  check_params(params);
  check_penalties(parsed.request.penalties);
}

void parse_randomness(const Arguments& arguments, bool drawing, ParsedRequest& parsed) {
  Randomness& randomness = parsed.request.randomness;
  const auto read = [&](Keyword keyword, auto& parameter) {
    parse_per_row(arguments[keyword], KeywordNames::text(keyword), parsed, parameter);
  };
  if (arguments.has(kKeySeed)) {
    read(kKeySeed, randomness.seed);
  } else if (drawing) {
    randomness.seed.value = next_seed();
  } else if (is_random_before_the_draw(parsed.request.params)) {
    value_error("seed must be given where 0 < xtc_probability < 1");
  }
  read(kKeyStream, randomness.stream);
  read(kKeyStep, randomness.step);
  const bool one_seed = !randomness.seed.varies() && randomness.seed.device.data == nullptr;
  randomness.stream_is_row = !arguments.has(kKeyStream) && one_seed;
  check_randomness(randomness);
}

bool parse_on_invalid(py::handle value, bool otherwise) {
  if (!value) return otherwise;
  if (PyUnicode_Check(value.ptr())) {
    if (PyUnicode_CompareWithASCIIString(value.ptr(), "raise") == 0) return true;
    if (PyUnicode_CompareWithASCIIString(value.ptr(), "mark") == 0) return false;
  }
  value_error("on_invalid must be None, \"raise\" or \"mark\", got " + repr_of(value));
}

}  // namespace

void parse_request(const Arguments& arguments, bool drawing, ParsedRequest& parsed) {
  parse_logits(arguments[kKeyLogits], "logits", parsed);
  parse_rest(arguments, drawing, parsed);
}

void parse_rest(const Arguments& arguments, bool drawing, ParsedRequest& parsed) {
  parse_filters(arguments, parsed.rows(), parsed);
  parse_history(arguments, parsed);
  parse_mask(arguments[kKeyMask], parsed);
  parse_bias(arguments[kKeyBias], parsed);
  check_edits(edits_on_host(parsed), parsed.rows(), parsed.vocab(), parsed.positions);
  parse_randomness(arguments, drawing, parsed);
  parsed.raise_invalid = parse_on_invalid(arguments[kKeyOnInvalid], !parsed.home.cuda);
  const py::handle threads = arguments[kKeyThreads];
  parsed.request.threads = threads ? parse_threads(threads) : cpu::default_threads();
  if (parsed.home.cuda) check_on_device(parsed.request);
}

void check_filters(const Arguments& arguments) {
  ParsedRequest parsed;
  parse_filters(arguments, -1, parsed);
}

}  // namespace tokendraw::bindings
