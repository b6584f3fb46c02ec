// SPDX-License-Identifier: Apache-2.0
#include "bindings/arguments.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "cpu/threads.h"
#include "plan/entropy.h"
#include "plan/plan.h"

namespace tokendraw::bindings {
namespace {

constexpr std::array<const char*, kKeywords> kNames{"temperature", "top_k",      "top_p",   "min_p", "mask", "bias",
                                                    "params",      "on_invalid", "threads", "out",   "seed", "stream",
                                                    "step",        "logprobs",   "logits",  "k"};

[[noreturn]] void type_error(const std::string& message) { throw py::type_error(message); }
[[noreturn]] void value_error(const std::string& message) { throw py::value_error(message); }

std::string type_name(py::handle value) { return Py_TYPE(value.ptr())->tp_name; }

std::string repr_of(py::handle value) { return py::repr(value).cast<std::string>(); }

std::string shape_text(const std::int64_t* shape, std::size_t ndim) {
  std::string text = "[";
  for (std::size_t axis = 0; axis < ndim; ++axis) text += (axis ? ", " : "") + std::to_string(shape[axis]);
  return text + "]";
}

py::object numpy() { return py::module_::import("numpy"); }

// ---- scalars ----------------------------------------------------------------------------------------------

double real_of(py::handle value) {
  const double number = PyFloat_AsDouble(value.ptr());
  if (number == -1.0 && PyErr_Occurred()) throw py::error_already_set();
  return number;
}

bool is_number(py::handle value) { return PyFloat_Check(value.ptr()) || PyLong_CheckExact(value.ptr()); }

std::int64_t integer_of(py::handle value, const char* name) {
  int overflow = 0;
  const long long number = PyLong_AsLongLongAndOverflow(value.ptr(), &overflow);
  if (overflow != 0) value_error(std::string(name) + " must fit in 64 bits, got " + repr_of(value));
  if (number == -1 && PyErr_Occurred()) throw py::error_already_set();
  return number;
}

std::uint64_t unsigned_of(py::handle value, const char* name) {
  const unsigned long long number = PyLong_AsUnsignedLongLong(value.ptr());
  if (number == static_cast<unsigned long long>(-1) && PyErr_Occurred()) {
    if (!PyErr_ExceptionMatches(PyExc_OverflowError)) throw py::error_already_set();
    PyErr_Clear();
    value_error(std::string(name) + " must be " + counter_rule(name) + ", got " + repr_of(value));
  }
  return number;
}

// ---- one value per row ------------------------------------------------------------------------------------

/// Anything that is no plain number: an array, a sequence, a scalar of another library. Returned contiguous.
py::object as_array(py::handle value, const char* name, const char* kinds, const char* expected) {
  if (PyBool_Check(value.ptr()) || PyUnicode_Check(value.ptr())) {
    type_error(std::string(name) + " must be " + expected + ", got " + type_name(value));
  }
  py::object array = numpy().attr("asarray")(value);
  const std::string kind = array.attr("dtype").attr("kind").cast<std::string>();
  if (std::strstr(kinds, kind.c_str()) == nullptr) {
    const bool array_like = array.attr("ndim").cast<int>() > 0;
    type_error(std::string(name) + " must be " + expected + ", got " +
               (array_like ? "an array of " + py::str(array.attr("dtype")).cast<std::string>() : type_name(value)));
  }
  return array;
}

template <class T>
struct Parameter;

template <>
struct Parameter<double> {
  static constexpr const char* kKinds = "fiu";
  static constexpr const char* kExpected = "a number, or an array with one per row";
  static constexpr const char* kDtype = "float64";
  static bool is_plain(py::handle value) { return is_number(value); }
  static double plain(py::handle value, const char*) { return real_of(value); }
};

template <>
struct Parameter<std::int64_t> {
  static constexpr const char* kKinds = "iu";
  static constexpr const char* kExpected = "an integer, or an array with one per row";
  static constexpr const char* kDtype = "int64";
  static bool is_plain(py::handle value) { return PyLong_CheckExact(value.ptr()); }
  static std::int64_t plain(py::handle value, const char* name) { return integer_of(value, name); }
};

template <>
struct Parameter<std::uint64_t> {
  static constexpr const char* kKinds = "iu";
  static constexpr const char* kExpected = "an integer, or an array with one per row";
  static constexpr const char* kDtype = "uint64";
  static bool is_plain(py::handle value) { return PyLong_CheckExact(value.ptr()); }
  static std::uint64_t plain(py::handle value, const char* name) { return unsigned_of(value, name); }
};

/// `rows` < 0 takes an array of any length.
void check_length(std::int64_t length, std::int64_t rows, const char* name) {
  if (rows < 0 || length == rows) return;
  value_error(std::string(name) + " must have one value per row (" + std::to_string(rows) + "), got " +
              std::to_string(length));
}

/// numpy would wrap a negative integer when it converts to unsigned, and a large unsigned one to signed.
void check_sign(py::handle array, py::handle target, const char* name) {
  const auto kind = array.attr("dtype").attr("kind").cast<std::string>();
  const auto wanted = target.cast<std::string>();
  if (kind == "i" && wanted == "uint64" && array.attr("min")().cast<std::int64_t>() < 0) {
    value_error(std::string(name) + " must be " + counter_rule(name) + ", got " +
                repr_of(array.attr("min")().attr("item")()) + " (row " +
                py::str(array.attr("argmin")()).cast<std::string>() + ")");
  }
  if (kind == "u" && wanted == "int64" && array.attr("max")().cast<std::uint64_t>() >> 63 != 0) {
    value_error(std::string(name) + " must fit in 64 bits, got " + repr_of(array.attr("max")().attr("item")()));
  }
}

template <class T>
void parse_per_row(py::handle value, const char* name, std::int64_t rows, PerRow<T>& parameter,
                   std::vector<T>& storage) {
  using Kind = Parameter<T>;
  if (!value) return;
  if (Kind::is_plain(value)) {
    parameter.value = Kind::plain(value, name);
    return;
  }
  py::object array = as_array(value, name, Kind::kKinds, Kind::kExpected);
  if (array.attr("ndim").cast<int>() == 0) {
    parameter.value = Kind::plain(array.attr("item")(), name);
    return;
  }
  const auto length = array.attr("size").cast<std::int64_t>();
  check_length(length, rows, name);
  if (length > 0) check_sign(array, py::str(Kind::kDtype), name);
  array = numpy().attr("ascontiguousarray")(array, py::str(Kind::kDtype));
  const ArrayView view = view_array(array, name);
  const auto* data = static_cast<const T*>(view.data);
  storage.assign(data, data + length);
  parameter.values = storage.data();
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

/// An argument of shape [width], or of the rows' leading shape (or its flattening) and `width`.
/// Returns the stride from row to row, 0 where one row serves all.
std::int64_t row_matrix(ArrayView& view, const char* name, const char* columns, std::int64_t width,
                        const ParsedRequest& parsed, std::vector<py::object>& owners) {
  std::int64_t rows = 1;
  for (int axis = 0; axis + 1 < view.ndim; ++axis) rows *= view.shape[axis];
  const bool one_row = view.ndim == 1;
  const bool fits =
      view.ndim >= 1 && (width < 0 || view.shape[view.ndim - 1] == width) && (one_row || rows == parsed.rows());
  if (!fits) {
    value_error(std::string(name) + " must have shape [" + columns + "] or [rows, " + columns + "] for " +
                std::to_string(parsed.rows()) + " rows and a vocab of " + std::to_string(parsed.vocab()) + ", got " +
                shape_text(view.shape, static_cast<std::size_t>(view.ndim)));
  }
  if (!has_contiguous_rows(view) || row_stride(view) < 0) make_contiguous(view, owners);
  return one_row ? 0 : row_stride(view);
}

// ---- logits, mask, bias -----------------------------------------------------------------------------------

void parse_logits(py::handle value, ParsedRequest& parsed) {
  ArrayView& view = parsed.logits;
  view = view_array(value, "logits");
  if (!is_logit_dtype(view.dtype)) {
    type_error("logits must be float32, float16, bfloat16 or float64, got an array of integers");
  }
  if (view.cuda) value_error("logits must be in host memory, got a CUDA array: this build has no CUDA backend");
  if (view.ndim == 0) value_error("logits must have at least one axis, got a scalar");
  const std::int64_t vocab = view.shape[view.ndim - 1];
  if (vocab == 0) value_error("logits must have a vocab of at least 1, got 0");
  if (vocab > INT32_MAX) value_error("logits must have a vocab below 2^31, got " + std::to_string(vocab));
  if (!has_contiguous_rows(view)) make_contiguous(view, parsed.owners);
  Logits& logits = parsed.request.logits;
  logits.data = view.data;
  logits.dtype = view.dtype;
  logits.vocab = vocab;
  logits.leading_shape.assign(view.shape, view.shape + view.ndim - 1);
  logits.leading_strides.assign(view.strides, view.strides + view.ndim - 1);
  logits.rows = 1;
  for (const std::int64_t extent : logits.leading_shape) logits.rows *= extent;
  parsed.leading_shape = logits.leading_shape;
  parsed.library = view.library;
}

/// Spare bits of the last word are nobody's: a full mask is words of -1. Only a mask of more words means more tokens.
void check_bits_past_vocab(const Edits& edits, std::int64_t rows, std::int64_t vocab) {
  if (edits.allowed_words <= (vocab + 31) / 32) return;
  for (std::int64_t row = 0; row < (edits.allowed_bits_stride == 0 ? 1 : rows); ++row) {
    const std::uint32_t* words = edits.allowed_bits + row * edits.allowed_bits_stride;
    for (std::int64_t word = vocab / 32; word < edits.allowed_words; ++word) {
      const std::uint32_t past = word == vocab / 32 ? words[word] >> (vocab % 32) << (vocab % 32) : words[word];
      if (past == 0) continue;
      value_error("mask must not allow a token past the vocab of " + std::to_string(vocab) + ", got token " +
                  std::to_string(word * 32 + __builtin_ctz(past)) + " (row " + std::to_string(row) + ")");
    }
  }
}

void parse_mask(py::handle value, ParsedRequest& parsed) {
  if (!value) return;
  ArrayView view = view_array(value, "mask");
  Edits& edits = parsed.request.edits;
  if (view.cuda) value_error("mask must be on the device of logits, got a CUDA array");
  if (view.dtype == Dtype::kBool) {
    edits.allowed_stride = row_matrix(view, "mask", "vocab", parsed.vocab(), parsed, parsed.owners);
    edits.allowed = static_cast<const std::uint8_t*>(view.data);
  } else if (view.dtype == Dtype::kInt32 || view.dtype == Dtype::kUint32) {
    edits.allowed_bits_stride = row_matrix(view, "mask", "ceil(vocab / 32)", -1, parsed, parsed.owners);
    edits.allowed_bits = static_cast<const std::uint32_t*>(view.data);
    edits.allowed_words = view.shape[view.ndim - 1];
    check_bits_past_vocab(edits, parsed.rows(), parsed.vocab());
  } else {
    type_error("mask must be bool, or int32 words of 32 tokens each, got another dtype");
  }
  parsed.views.push_back(std::move(view));
}

void parse_token_bias(py::handle value, ParsedRequest& parsed) {
  for (const auto& [token, bias] : py::reinterpret_borrow<py::dict>(value)) {
    if (!PyIndex_Check(token.ptr())) type_error("bias must have token ids as keys, got " + type_name(token));
    const py::object index = py::reinterpret_steal<py::object>(PyNumber_Index(token.ptr()));
    if (!index) throw py::error_already_set();
    const std::int64_t id = integer_of(index, "bias");
    if (id < 0 || id >= parsed.vocab()) {
      value_error("bias must have tokens in [0, " + std::to_string(parsed.vocab()) + "), got " + std::to_string(id));
    }
    parsed.token_bias.push_back({static_cast<std::int32_t>(id), static_cast<float>(real_of(bias))});
  }
  std::sort(parsed.token_bias.begin(), parsed.token_bias.end(),
            [](const TokenBias& a, const TokenBias& b) { return a.token < b.token; });
  parsed.request.edits.token_bias = parsed.token_bias.empty() ? nullptr : parsed.token_bias.data();
  parsed.request.edits.token_bias_count = static_cast<std::int64_t>(parsed.token_bias.size());
}

void parse_dense_bias(py::handle value, ParsedRequest& parsed) {
  ArrayView view = view_array(value, "bias");
  if (view.cuda) value_error("bias must be on the device of logits, got a CUDA array");
  if (!is_logit_dtype(view.dtype)) type_error("bias must be a dict or an array of floats, got an array of integers");
  if (view.dtype != Dtype::kFloat32) {
    const py::object floats = numpy().attr("asarray")(value).attr("astype")("float32");
    parsed.owners.push_back(floats);
    view = view_array(floats, "bias");
  }
  parsed.request.edits.bias_stride = row_matrix(view, "bias", "vocab", parsed.vocab(), parsed, parsed.owners);
  parsed.request.edits.bias = static_cast<const float*>(view.data);
  parsed.views.push_back(std::move(view));
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

/// A parameter given to the call, else the one of `params=`, else nothing. `held` keeps what an attribute returned.
py::handle given(const Arguments& arguments, Keyword keyword, py::object& held) {
  if (arguments.has(keyword) || !arguments.has(kKeyParams)) return arguments[keyword];
  held = py::reinterpret_steal<py::object>(PyObject_GetAttr(arguments[kKeyParams].ptr(), arguments.names()[keyword]));
  if (!held) {
    PyErr_Clear();
    type_error("params must be a SamplingParams, got " + type_name(arguments[kKeyParams]));
  }
  return held.is_none() ? py::handle() : py::handle(held);
}

void parse_filters(const Arguments& arguments, std::int64_t rows, ParsedRequest& parsed) {
  FilterParams& params = parsed.request.params;
  const auto read = [&](Keyword keyword, auto& parameter, auto& storage) {
    py::object held;
    parse_per_row(given(arguments, keyword, held), kNames[keyword], rows, parameter, storage[keyword]);
  };
  read(kKeyTemperature, params.temperature, parsed.reals);
  read(kKeyTopK, params.top_k, parsed.integers);
  read(kKeyTopP, params.top_p, parsed.reals);
  read(kKeyMinP, params.min_p, parsed.reals);
}

void parse_randomness(const Arguments& arguments, ParsedRequest& parsed) {
  Randomness& randomness = parsed.request.randomness;
  const std::int64_t rows = parsed.rows();
  const auto read = [&](Keyword keyword, auto& parameter) {
    parse_per_row(arguments[keyword], kNames[keyword], rows, parameter, parsed.unsigneds[keyword]);
  };
  if (arguments.has(kKeySeed)) {
    read(kKeySeed, randomness.seed);
  } else {
    randomness.seed.value = next_seed();
  }
  read(kKeyStream, randomness.stream);
  read(kKeyStep, randomness.step);
  randomness.stream_is_row = !arguments.has(kKeyStream) && !randomness.seed.varies();
  check_randomness(randomness, rows);
}

bool parse_on_invalid(py::handle value) {
  if (!value) return true;
  if (PyUnicode_Check(value.ptr())) {
    if (PyUnicode_CompareWithASCIIString(value.ptr(), "raise") == 0) return true;
    if (PyUnicode_CompareWithASCIIString(value.ptr(), "mark") == 0) return false;
  }
  value_error("on_invalid must be None, \"raise\" or \"mark\", got " + repr_of(value));
}

}  // namespace

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
  const std::string function = signature.function;
  if (static_cast<std::size_t>(count) > signature.positional.size()) {
    type_error(function + "() takes " + std::to_string(signature.positional.size()) + " positional arguments but " +
               std::to_string(count) + " were given");
  }
  KeywordSet seen = 0;
  const auto put = [&](Keyword keyword, PyObject* value) {
    if ((seen & set_of(keyword)) != 0) {
      type_error(function + "() got multiple values for argument '" + kNames[keyword] + "'");
    }
    seen |= set_of(keyword);
    values_[keyword] = value == Py_None ? nullptr : value;
  };
  for (Py_ssize_t i = 0; i < count; ++i) put(signature.positional[static_cast<std::size_t>(i)], values[i]);

  KeywordSet allowed = signature.keywords;
  for (const Keyword keyword : signature.positional) allowed |= set_of(keyword);
  const Py_ssize_t keywords = keyword_names ? PyTuple_GET_SIZE(keyword_names) : 0;
  for (Py_ssize_t i = 0; i < keywords; ++i) {
    PyObject* name = PyTuple_GET_ITEM(keyword_names, i);
    const int keyword = names.find(name);
    if (keyword < 0 || (allowed & set_of(static_cast<Keyword>(keyword))) == 0) {
      type_error(function + "() got an unexpected keyword argument " + repr_of(name));
    }
    put(static_cast<Keyword>(keyword), values[count + i]);
  }
  for (const Keyword keyword : signature.positional) {
    if ((seen & set_of(keyword)) == 0) type_error(function + "() missing required argument '" + kNames[keyword] + "'");
  }
}

std::int64_t parse_count(py::handle value, const char* name) {
  if (!value || PyBool_Check(value.ptr()) || !PyIndex_Check(value.ptr())) {
    type_error(std::string(name) + " must be an integer, got " + (value ? type_name(value) : "None"));
  }
  const py::object index = py::reinterpret_steal<py::object>(PyNumber_Index(value.ptr()));
  if (!index) throw py::error_already_set();
  const std::int64_t count = integer_of(index, name);
  if (count < 0) value_error(std::string(name) + " must be >= 0, got " + std::to_string(count));
  return count;
}

void parse_request(const Arguments& arguments, bool drawing, ParsedRequest& parsed) {
  parse_logits(arguments[kKeyLogits], parsed);
  parse_filters(arguments, parsed.rows(), parsed);
  check_params(parsed.request.params, parsed.rows());
  parse_mask(arguments[kKeyMask], parsed);
  parse_bias(arguments[kKeyBias], parsed);
  check_edits(parsed.request.edits, parsed.rows(), parsed.vocab());
  if (drawing) parse_randomness(arguments, parsed);
  parsed.raise_invalid = parse_on_invalid(arguments[kKeyOnInvalid]);
  parsed.request.threads = cpu::default_threads();
  if (arguments.has(kKeyThreads)) {
    const std::int64_t threads = parse_count(arguments[kKeyThreads], "threads");
    if (threads == 0) value_error("threads must be >= 1, got 0");
    parsed.request.threads = static_cast<int>(std::min<std::int64_t>(threads, 1024));
  }
}

void check_filters(const Arguments& arguments) {
  ParsedRequest parsed;
  parse_filters(arguments, -1, parsed);
  for (int keyword = kKeyTemperature; keyword <= kKeyMinP; ++keyword) {
    const auto length =
        static_cast<std::int64_t>(std::max(parsed.reals[keyword].size(), parsed.integers[keyword].size()));
    FilterParams one;
    switch (keyword) {
      case kKeyTemperature: one.temperature = parsed.request.params.temperature; break;
      case kKeyTopK: one.top_k = parsed.request.params.top_k; break;
      case kKeyTopP: one.top_p = parsed.request.params.top_p; break;
      default: one.min_p = parsed.request.params.min_p; break;
    }
    check_params(one, length);
  }
}

}  // namespace tokendraw::bindings
