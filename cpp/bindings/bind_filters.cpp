// SPDX-License-Identifier: Apache-2.0
// softmax, log_softmax, filter_logits, kept_set, top_k: what the steps leave of a row, without a draw.
#include <algorithm>

#include "bindings/bind.h"
#include "bindings/calls.h"
#include "bindings/device.h"
#include "bindings/docs.h"
#include "bindings/gil.h"
#include "bindings/sink.h"
#include "bindings/values.h"
#include "cpu/backend.h"
#include "plan/unsupported.h"

namespace tokendraw::bindings {
namespace {

using Shape = std::vector<std::int64_t>;

Shape full_shape(const ParsedRequest& parsed, std::int64_t last) {
  Shape shape = parsed.leading_shape;
  shape.push_back(last);
  return shape;
}

py::object transform_rows(const Arguments& arguments, Transform transform) {
  ParsedRequest parsed;
  parse_request(arguments, false, parsed);
  Sink<float> sink(arguments[kKeyOut], parsed.home, Dtype::kFloat32, full_shape(parsed, parsed.vocab()),
                   {Dtype::kFloat32});
  float* data = sink.data();
  const auto status = run_rows(parsed, nullptr, [&](Backend& backend, RowStatus* rows, DeviceCall*) {
    backend.transform(parsed.request, transform, data, rows);
  });
  py::object rows = sink.finish();
  raise_invalid(parsed, status, py::none());
  return rows;
}

constexpr KeywordSet kTransformKeywords = kFilterKeywords | kCallKeywords | set_of(kKeyOut);
const Signature kSoftmax{"softmax", {kKeyLogits}, kTransformKeywords};
const Signature kLogSoftmax{"log_softmax", {kKeyLogits}, kTransformKeywords};
const Signature kFilterLogits{"filter_logits", {kKeyLogits}, kTransformKeywords};
const Signature kKeptSet{"kept_set", {kKeyLogits}, kFilterKeywords | kCallKeywords};
const Signature kTopKSignature{"top_k", {kKeyLogits, kKeyK}, kCallKeywords};
const Signature kCheckFilters{"_check_filters", {}, kParamsKeywords};

PyObject* softmax(PyObject* self, PyObject* const* values, Py_ssize_t count, PyObject* keywords) {
  return fast_call(self, values, count, keywords, kSoftmax,
                   [](const Arguments& arguments) { return transform_rows(arguments, Transform::kProbs); });
}

PyObject* log_softmax(PyObject* self, PyObject* const* values, Py_ssize_t count, PyObject* keywords) {
  return fast_call(self, values, count, keywords, kLogSoftmax,
                   [](const Arguments& arguments) { return transform_rows(arguments, Transform::kLogprobs); });
}

PyObject* filter_logits(PyObject* self, PyObject* const* values, Py_ssize_t count, PyObject* keywords) {
  return fast_call(self, values, count, keywords, kFilterLogits,
                   [](const Arguments& arguments) { return transform_rows(arguments, Transform::kScores); });
}

PyObject* kept_set(PyObject* self, PyObject* const* values, Py_ssize_t count, PyObject* keywords) {
  return fast_call(self, values, count, keywords, kKeptSet, [](const Arguments& arguments) {
    ParsedRequest parsed;
    parse_request(arguments, false, parsed);
    if (parsed.home.cuda) refuse_on_device("kept_set");
    std::vector<RowStatus> status(static_cast<std::size_t>(parsed.rows()));
    std::vector<KeptRow> rows(static_cast<std::size_t>(parsed.rows()));
    {
      const ReleasedGil released;
      cpu::backend().list_kept(parsed.request, rows.data(), status.data());
    }
    raise_invalid(parsed, status, py::none());
    Result offsets(parsed.home, Dtype::kInt64, {parsed.rows() + 1});
    auto* offset = static_cast<std::int64_t*>(offsets.data());
    offset[0] = 0;
    for (std::size_t row = 0; row < rows.size(); ++row) {
      offset[row + 1] = offset[row] + static_cast<std::int64_t>(rows[row].tokens.size());
    }
    Result tokens(parsed.home, Dtype::kInt32, {offset[rows.size()]});
    Result logprobs(parsed.home, Dtype::kFloat32, {offset[rows.size()]});
    auto* token = static_cast<std::int32_t*>(tokens.data());
    auto* logprob = static_cast<float*>(logprobs.data());
    for (std::size_t row = 0; row < rows.size(); ++row) {
      std::copy(rows[row].tokens.begin(), rows[row].tokens.end(), token + offset[row]);
      std::copy(rows[row].logprobs.begin(), rows[row].logprobs.end(), logprob + offset[row]);
    }
    return py::module_::import("tokendraw.sampler")
        .attr("KeptSet")(tokens.finish(), logprobs.finish(), offsets.finish());
  });
}

PyObject* top_k(PyObject* self, PyObject* const* values, Py_ssize_t count, PyObject* keywords) {
  return fast_call(self, values, count, keywords, kTopKSignature, [](const Arguments& arguments) {
    ParsedRequest parsed;
    parse_request(arguments, false, parsed);
    const std::int64_t k = std::min(parse_count(arguments[kKeyK], "k"), parsed.vocab());
    Result best(parsed.home, Dtype::kFloat32, full_shape(parsed, k));
    Result tokens(parsed.home, Dtype::kInt32, full_shape(parsed, k));
    auto* value = static_cast<float*>(best.data());
    auto* token = static_cast<std::int32_t*>(tokens.data());
    const auto status = run_rows(parsed, nullptr, [&](Backend& backend, RowStatus* rows, DeviceCall*) {
      backend.top_k(parsed.request, k, value, token, rows);
    });
    const py::object drawn = tokens.finish();
    raise_invalid(parsed, status, drawn);
    return py::object(py::make_tuple(best.finish(), drawn));
  });
}

PyObject* check_filter_values(PyObject* self, PyObject* const* values, Py_ssize_t count, PyObject* keywords) {
  return fast_call(self, values, count, keywords, kCheckFilters, [](const Arguments& arguments) {
    check_filters(arguments);
    return py::object(py::none());
  });
}

constexpr const char* kSoftmaxDoc =
    "softmax(logits, *, " TOKENDRAW_FILTERS_SIGNATURE TOKENDRAW_RANDOM_SIGNATURE R"(out=None, threads=None)
--

Probabilities over the kept tokens of every row; 0 elsewhere.

Parameters
----------
)" TOKENDRAW_PARAMETER_NAMES R"(
    As for `sample`; a seed is needed where 0 < xtc_probability < 1.
out : float32 array of the shape of logits
    Written and returned.

Returns
-------
float32 array of the shape of logits
    Each row sums to 1 within 1e-6. NaN in an invalid row that is marked.

Examples
--------
>>> import numpy as np
>>> import tokendraw as td
>>> td.softmax(np.log(np.float32([1, 2, 3, 4])), top_k=2).round(4).tolist()
[0.0, 0.0, 0.428600013256073, 0.571399986743927]
)";

constexpr const char* kLogSoftmaxDoc =
    "log_softmax(logits, *, " TOKENDRAW_FILTERS_SIGNATURE TOKENDRAW_RANDOM_SIGNATURE R"(out=None, threads=None)
--

Log-probabilities (nats) over the kept tokens of every row; -inf elsewhere.

Parameters
----------
)" TOKENDRAW_PARAMETER_NAMES R"(, out
    As for `softmax`.

Returns
-------
float32 array of the shape of logits
    Within 1e-6 + 2**-22 * abs(logprob) of the exact value.

Examples
--------
>>> import numpy as np
>>> import tokendraw as td
>>> np.exp(td.log_softmax(np.float32([0, 0, 0, 0]), mask=np.array([True, True, False, False]))).round(3).tolist()
[0.5, 0.5, 0.0, 0.0]
)";

constexpr const char* kFilterLogitsDoc =
    "filter_logits(logits, *, " TOKENDRAW_FILTERS_SIGNATURE TOKENDRAW_RANDOM_SIGNATURE R"(out=None, threads=None)
--

Scores ``(logit - row_max) / temperature`` where kept; -inf elsewhere.

The maximum is that of the row after mask, bias and penalties.

Parameters
----------
)" TOKENDRAW_PARAMETER_NAMES R"(, out
    As for `softmax`.

Returns
-------
float32 array of the shape of logits
    A kept score is at least -FLT_MAX. At temperature 0 the one kept token scores 0.

Examples
--------
>>> import numpy as np
>>> import tokendraw as td
>>> td.filter_logits(np.float32([1, 5, 3]), temperature=0.5, top_k=2).tolist()
[-inf, 0.0, -4.0]
)";

constexpr const char* kKeptSetDoc =
    "kept_set(logits, *, " TOKENDRAW_FILTERS_SIGNATURE TOKENDRAW_RANDOM_SIGNATURE R"(threads=None)
--

The kept tokens of every row, ragged.

Parameters
----------
)" TOKENDRAW_PARAMETER_NAMES R"(
    As for `softmax`.

Returns
-------
KeptSet
    tokens (int32) and logprobs (float32, over the kept set) of all rows one after another, each row's ascending;
    offsets (int64 [rows + 1]): row i is ``tokens[offsets[i]:offsets[i + 1]]``.

Examples
--------
>>> import numpy as np
>>> import tokendraw as td
>>> kept = td.kept_set(np.log(np.float32([[4, 3, 2, 1], [1, 1, 1, 1]])), top_p=0.5)
>>> kept.tokens.tolist(), kept.offsets.tolist()
([0, 1, 0, 1], [0, 2, 4])
)";

constexpr const char* kTopKDoc = R"(top_k(logits, k, *, on_invalid=None, threads=None)
--

The k best tokens of every row, sorted in the total order.

Parameters
----------
logits, on_invalid, threads
    As for `sample`.
k : int
    Above the vocab: the vocab.

Returns
-------
values, tokens : float32 and int32 arrays [..., k]
    Past the last finite logit: -inf and -1.

Examples
--------
>>> import numpy as np
>>> import tokendraw as td
>>> values, tokens = td.top_k(np.float32([1, 3, 2, 3]), 3)
>>> values.tolist(), tokens.tolist()
([3.0, 3.0, 2.0], [1, 3, 2])
)";

constexpr const char* kCheckFiltersDoc = "_check_filters(*, " TOKENDRAW_PARAMS_SIGNATURE ")\n--\n\n";

}  // namespace

void bind_filters(py::module_& module) {
  static PyMethodDef functions[] = {
      fast_method("softmax", softmax, kSoftmaxDoc),
      fast_method("log_softmax", log_softmax, kLogSoftmaxDoc),
      fast_method("filter_logits", filter_logits, kFilterLogitsDoc),
      fast_method("kept_set", kept_set, kKeptSetDoc),
      fast_method("top_k", top_k, kTopKDoc),
      fast_method("_check_filters", check_filter_values, kCheckFiltersDoc),
      {nullptr, nullptr, 0, nullptr},
  };
  add_functions(module, functions);
}

}  // namespace tokendraw::bindings
