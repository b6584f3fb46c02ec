// SPDX-License-Identifier: Apache-2.0
#include "bindings/values.h"

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <utility>

#include "cpu/threads.h"
#include "plan/plan.h"

namespace tokendraw::bindings {
namespace {

py::object numpy() { return py::module_::import("numpy"); }

bool is_number(py::handle value) { return PyFloat_Check(value.ptr()) || PyLong_CheckExact(value.ptr()); }

std::uint64_t parse_unsigned(py::handle value, const char* name, const std::string& place = "") {
  const unsigned long long number = PyLong_AsUnsignedLongLong(value.ptr());
  if (number == static_cast<unsigned long long>(-1) && PyErr_Occurred()) {
    if (!PyErr_ExceptionMatches(PyExc_OverflowError)) throw py::error_already_set();
    PyErr_Clear();
    value_error(std::string(name) + " must be " + counter_rule(name) + ", got " + repr_of(value) + place);
  }
  return number;
}

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
  static double plain(py::handle value, const char*, const std::string& = "") { return parse_real(value); }
};

template <>
struct Parameter<std::int64_t> {
  static constexpr const char* kKinds = "iu";
  static constexpr const char* kExpected = "an integer, or an array with one per row";
  static constexpr const char* kDtype = "int64";
  static bool is_plain(py::handle value) { return PyLong_CheckExact(value.ptr()); }
  static std::int64_t plain(py::handle value, const char* name, const std::string& = "") {
    return parse_integer(value, name);
  }
};

template <>
struct Parameter<std::uint64_t> {
  static constexpr const char* kKinds = "iu";
  static constexpr const char* kExpected = "an integer, or an array with one per row";
  static constexpr const char* kDtype = "uint64";
  static bool is_plain(py::handle value) { return PyLong_CheckExact(value.ptr()); }
  static std::uint64_t plain(py::handle value, const char* name, const std::string& place = "") {
    return parse_unsigned(value, name, place);
  }
};

/// `rows` < 0 takes an array of any length.
void check_length(std::int64_t length, std::int64_t rows, const char* name) {
  if (rows < 0 || length == rows) return;
  value_error(std::string(name) + " must have one value per row (" + std::to_string(rows) + "), got " +
              std::to_string(length));
}

/// The first element for which `is_wrong` says so, as an array of T in C order; -1 where there is none.
template <class T, class IsWrong>
std::int64_t find_wrong(const ArrayView& view, const IsWrong& is_wrong) {
  const auto* data = static_cast<const T*>(view.data);
  std::int64_t count = 1;
  for (int axis = 0; axis < view.ndim; ++axis) count *= view.shape[axis];
  const T* wrong = std::find_if(data, data + count, is_wrong);
  return wrong == data + count ? -1 : wrong - data;
}

/// numpy would wrap a negative integer when it converts to unsigned, and a large unsigned one to signed. Not by its
/// reductions, which forget to say that they had no memory (2.4).
void check_sign(py::handle array, py::handle target, const char* name) {
  const auto kind = array.attr("dtype").attr("kind").cast<std::string>();
  const auto wanted = target.cast<std::string>();
  const bool to_unsigned = kind == "i" && wanted == "uint64";
  const bool to_signed = kind == "u" && wanted == "int64";
  if (!to_unsigned && !to_signed) return;
  const py::object wide = numpy().attr("ascontiguousarray")(array, py::str(to_unsigned ? "int64" : "uint64"));
  const ArrayView view = view_array(wide, name);
  if (to_unsigned) {
    const std::int64_t row = find_wrong<std::int64_t>(view, [](std::int64_t value) { return value < 0; });
    if (row < 0) return;
    value_error(std::string(name) + " must be " + counter_rule(name) + ", got " +
                std::to_string(static_cast<const std::int64_t*>(view.data)[row]) + " (row " + std::to_string(row) +
                ")");
  }
  const std::int64_t row = find_wrong<std::uint64_t>(view, [](std::uint64_t value) { return value >> 63 != 0; });
  if (row < 0) return;
  value_error(std::string(name) + " must fit in 64 bits, got " +
              std::to_string(static_cast<const std::uint64_t*>(view.data)[row]));
}

/// A list or tuple of Python numbers, which need not fit in one dtype of NumPy: seeds go up to 2^64.
template <class T>
bool read_list(py::handle value, const char* name, std::vector<T>& storage) {
  if (!PyList_Check(value.ptr()) && !PyTuple_Check(value.ptr())) return false;
  const auto items = py::reinterpret_borrow<py::sequence>(value);
  for (const py::handle item : items) {
    if (!Parameter<T>::is_plain(item)) return false;
  }
  for (const py::handle item : items) {
    storage.push_back(Parameter<T>::plain(item, name, " (row " + std::to_string(storage.size()) + ")"));
  }
  return true;
}

/// Any other array, or sequence of sequences, in C order.
template <class T>
void read_array(const py::object& array, const char* name, std::vector<T>& storage) {
  const auto length = array.attr("size").cast<std::int64_t>();
  if (length > 0) check_sign(array, py::str(Parameter<T>::kDtype), name);
  const py::object contiguous = numpy().attr("ascontiguousarray")(array, py::str(Parameter<T>::kDtype));
  const ArrayView view = view_array(contiguous, name);
  const auto* data = static_cast<const T*>(view.data);
  storage.assign(data, data + length);
}

bool is_integer(Dtype dtype) { return !is_logit_dtype(dtype) && dtype != Dtype::kBool; }

/// An array on a device, whose kernels read it.
DeviceValues view_on_device(py::handle value, const char* name, std::int64_t rows, bool integers, const char* expected,
                            const DeviceInput* device) {
  ArrayView view = view_array(value, name);
  check_home(view, device ? device->home : Home{}, name);
  if (view.dtype == Dtype::kBool || (integers && !is_integer(view.dtype))) {
    type_error(std::string(name) + " must be " + expected + ", got an array of another dtype");
  }
  std::int64_t count = 1;
  std::int64_t stride = 1;
  bool is_contiguous = true;
  for (int axis = view.ndim; axis-- > 0;) {
    is_contiguous = is_contiguous && (view.shape[axis] == 1 || view.strides[axis] == stride);
    stride *= view.shape[axis];
    count *= view.shape[axis];
  }
  check_length(count, rows, name);
  if (!is_contiguous) value_error(std::string(name) + " must be contiguous on a CUDA device, got other strides");
  const DeviceValues values{view.data, view.dtype};
  if (device) device->views.push_back(std::move(view));
  return values;
}

}  // namespace

void type_error(const std::string& message) { throw py::type_error(message); }
void value_error(const std::string& message) { throw py::value_error(message); }

std::string type_name(py::handle value) { return Py_TYPE(value.ptr())->tp_name; }

std::string repr_of(py::handle value) { return py::repr(value).cast<std::string>(); }

double parse_real(py::handle value) {
  const double number = PyFloat_AsDouble(value.ptr());
  if (number == -1.0 && PyErr_Occurred()) throw py::error_already_set();
  return number;
}

bool is_number(py::handle value) { return PyFloat_Check(value.ptr()) || PyLong_CheckExact(value.ptr()); }

std::int64_t parse_integer(py::handle value, const char* name) {
  int overflow = 0;
  const long long number = PyLong_AsLongLongAndOverflow(value.ptr(), &overflow);
  if (overflow != 0) value_error(std::string(name) + " must fit in 64 bits, got " + repr_of(value));
  if (number == -1 && PyErr_Occurred()) throw py::error_already_set();
  return number;
}

std::int64_t parse_index(py::handle value, const char* name) {
  const py::object index = py::reinterpret_steal<py::object>(PyNumber_Index(value.ptr()));
  if (!index) throw py::error_already_set();
  return parse_integer(index, name);
}

bool parse_flag(py::handle value, const char* name) {
  if (!value) return false;
  if (!PyBool_Check(value.ptr())) type_error(std::string(name) + " must be True or False, got " + repr_of(value));
  return value.ptr() == Py_True;
}

std::int64_t parse_count(py::handle value, const char* name, std::int64_t least) {
  if (!value || PyBool_Check(value.ptr()) || !PyIndex_Check(value.ptr())) {
    type_error(std::string(name) + " must be an integer, got " + (value ? type_name(value) : "None"));
  }
  const std::int64_t count = parse_index(value, name);
  if (count < least) {
    value_error(std::string(name) + " must be >= " + std::to_string(least) + ", got " + std::to_string(count));
  }
  return count;
}

int parse_threads(py::handle value) {
  return static_cast<int>(std::min<std::int64_t>(parse_count(value, "threads", 1), cpu::kMaxThreads));
}

template <class T>
void parse_per_row(py::handle value, const char* name, std::int64_t rows, PerRow<T>& parameter,
                   std::vector<std::vector<T>>& pool, const DeviceInput* device) {
  using Kind = Parameter<T>;
  if (!value) return;
  if (Kind::is_plain(value)) {
    parameter.value = Kind::plain(value, name);
    return;
  }
  if (is_on_cuda(value)) {
    constexpr bool kIntegers = !std::is_same_v<T, double>;
    parameter.device = view_on_device(value, name, rows, kIntegers, Kind::kExpected, device);
    return;
  }
  std::vector<T>& storage = pool.emplace_back();
  if (!read_list(value, name, storage)) {
    const py::object array = as_array(value, name, Kind::kKinds, Kind::kExpected);
    if (array.attr("ndim").cast<int>() == 0) {
      parameter.value = Kind::plain(array.attr("item")(), name);
      return;
    }
    read_array(array, name, storage);
  }
  parameter.values = storage.data();
  parameter.count = static_cast<std::int64_t>(storage.size());
  check_length(parameter.count, rows, name);
}

template void parse_per_row(py::handle, const char*, std::int64_t, PerRow<double>&, std::vector<std::vector<double>>&,
                            const DeviceInput*);
template void parse_per_row(py::handle, const char*, std::int64_t, PerRow<std::int64_t>&,
                            std::vector<std::vector<std::int64_t>>&, const DeviceInput*);
template void parse_per_row(py::handle, const char*, std::int64_t, PerRow<std::uint64_t>&,
                            std::vector<std::vector<std::uint64_t>>&, const DeviceInput*);

}  // namespace tokendraw::bindings
