// SPDX-License-Identifier: Apache-2.0
// verify_draft: lossless speculative decoding.
#include "bindings/bind.h"
#include "bindings/calls.h"
#include "bindings/docs.h"
#include "bindings/gil.h"
#include "bindings/values.h"
#include "cpu/backend.h"
#include "plan/plan.h"
#include "plan/unsupported.h"

namespace tokendraw::bindings {
namespace {

using Shape = std::vector<std::int64_t>;

/// The drafts of a call and what they borrow from.
struct ParsedDrafts {
  Drafts drafts;
  ParsedRequest of_logits;
  std::vector<std::int32_t> tokens;
  std::vector<std::int32_t> parents;
};

py::object as_integers(py::handle value, const char* name) {
  if (!value) type_error(std::string(name) + " must be an integer array padded with -1, got None");
  py::object array;
  try {
    array = py::module_::import("numpy").attr("asarray")(value);
  } catch (const py::error_already_set& error) {
    if (!error.matches(PyExc_ValueError)) throw;
    value_error(std::string(name) + " must have rows of one length, padded with -1");
  }
  const auto kind = array.attr("dtype").attr("kind").cast<std::string>();
  if (kind != "i" && kind != "u" && array.attr("size").cast<std::int64_t>() > 0) {
    type_error(std::string(name) + " must be an integer array padded with -1, got an array of " +
               py::str(array.attr("dtype")).cast<std::string>());
  }
  return py::module_::import("numpy").attr("ascontiguousarray")(array, "int64");
}

/// One integer per draft.
std::vector<std::int32_t> parse_drafts(py::handle value, const char* name, const Shape& expected) {
  const py::object array = as_integers(value, name);
  const auto shape = array.attr("shape").cast<Shape>();
  if (shape != expected) {
    value_error(std::string(name) + " must have one position less than target_logits, " +
                repr_of(py::tuple(py::cast(expected))) + ", got shape " + repr_of(py::tuple(py::cast(shape))));
  }
  const ArrayView view = view_array(array, name);
  const auto* data = static_cast<const std::int64_t*>(view.data);
  std::vector<std::int32_t> drafts(static_cast<std::size_t>(array.attr("size").cast<std::int64_t>()));
  for (std::size_t i = 0; i < drafts.size(); ++i) {
    if (data[i] != -1) check_token(name, data[i], INT32_MAX, "");
    drafts[i] = static_cast<std::int32_t>(data[i]);
  }
  return drafts;
}

/// The logits that drafts were drawn from, a row for each.
void parse_draft_logits(py::handle value, const Shape& expected, std::int64_t vocab, ParsedDrafts& parsed) {
  if (!value) return;
  parse_logits(value, "draft_logits", parsed.of_logits);
  check_home(parsed.of_logits.logits, Home{}, "draft_logits");
  Shape wanted = expected;
  wanted.push_back(vocab);
  Shape shape = parsed.of_logits.leading_shape;
  shape.push_back(parsed.of_logits.vocab());
  if (shape != wanted) {
    value_error("draft_logits must have a row of the vocab of target_logits for each draft, " +
                repr_of(py::tuple(py::cast(wanted))) + ", got shape " + repr_of(py::tuple(py::cast(shape))));
  }
  fold_positions("draft_logits", parsed.of_logits);
  parsed.drafts.logits = parsed.of_logits.request.logits;
}

void parse_verification(const Arguments& arguments, ParsedRequest& target, ParsedDrafts& parsed) {
  parse_logits(arguments[kKeyTargetLogits], "target_logits", target);
  if (target.home.cuda) refuse_on_device("verify_draft");
  fold_positions("target_logits", target);
  if (target.positions == 0) value_error("target_logits must have a position after the last draft, got none");
  Drafts& drafts = parsed.drafts;
  drafts.count = target.positions - 1;
  Shape expected = target.leading_shape;
  expected.push_back(drafts.count);
  parsed.tokens = parse_drafts(arguments[kKeyDraftTokens], "draft_tokens", expected);
  drafts.tokens = parsed.tokens.data();
  parse_draft_logits(arguments[kKeyDraftLogits], expected, target.vocab(), parsed);
  if (arguments.has(kKeyParents)) {
    parsed.parents = parse_drafts(arguments[kKeyParents], "parents", expected);
    drafts.parents = parsed.parents.data();
  }
  drafts.replacement = parse_flag(arguments[kKeyReplacement], "replacement");
  parse_rest(arguments, true, target);
  check_drafts(drafts, target.request.randomness, target.rows(), target.vocab());
}

const Signature kVerifyDraft{"verify_draft",
                             {kKeyDraftTokens, kKeyDraftLogits, kKeyTargetLogits},
                             kFilterKeywords | kCallKeywords | set_of(kKeyParents) | set_of(kKeyReplacement)};

PyObject* verify_draft(PyObject* self, PyObject* const* values, Py_ssize_t count, PyObject* keywords) {
  return fast_call(self, values, count, keywords, kVerifyDraft, [](const Arguments& arguments) {
    ParsedRequest parsed;
    ParsedDrafts drafts;
    parse_verification(arguments, parsed, drafts);
    Shape shape = parsed.leading_shape;
    shape.push_back(parsed.positions);
    Result tokens(parsed.home, Dtype::kInt32, shape);
    Result accepted(parsed.home, Dtype::kInt64, parsed.leading_shape);
    const VerifyOutputs outputs{static_cast<std::int32_t*>(tokens.data()), static_cast<std::int64_t*>(accepted.data())};
    std::vector<RowStatus> status(static_cast<std::size_t>(parsed.rows()));
    {
      const ReleasedGil released;
      cpu::backend().verify(parsed.request, drafts.drafts, outputs, status.data());
    }
    const py::object emitted = tokens.finish();
    raise_invalid(parsed, status, emitted);
    return py::object(py::module_::import("tokendraw.speculative").attr("Verified")(emitted, accepted.finish()));
  });
}

constexpr const char* kVerifyDraftDoc =
    "verify_draft(draft_tokens, draft_logits, target_logits, *, parents=None, "
    "replacement=False, " TOKENDRAW_FILTERS_SIGNATURE TOKENDRAW_RANDOM_SIGNATURE R"(threads=None)
--

Accept or replace drafted tokens so that what comes out follows the target model exactly.

A draft is accepted with probability min(1, p / q), p and q its probabilities after all steps under the target's and
under the draft's logits; the first rejected one is replaced by a token of the residual max(p - q, 0). After the last
accepted draft comes one token of the target. So every call yields at least one token, and the sequence has the
distribution that `sample` would have drawn it from, whatever the drafts.

Parameters
----------
draft_tokens : int array of shape [..., n]
    The drafts of each row, -1 after the last.
draft_logits : array of shape [..., n, vocab], or None
    The logits that each draft was drawn from by the same parameters. None for drafts that were not drawn at random,
    such as those looked up in the text: q is then 1.
target_logits : array of shape [..., n + 1, vocab]
    Position 0 is the target's before any draft, position i + 1 the target's after draft i.
parents : int array of shape [..., n], optional
    Makes the drafts of a row a tree: the earlier draft that each one follows, -1 where it comes first. Drafts of one
    parent stand in the order in which they were drawn, and were all drawn from the `draft_logits` of the first. By
    default each draft follows the one before it.
replacement : bool, default False
    Whether drafts of one parent were drawn with replacement.
)" TOKENDRAW_OTHER_PARAMETER_NAMES R"(
    As for `sample`, one per row, the same for all positions; but a mask or bias may also have a row for each position of
    `target_logits`. A draft i places from the root is at step + i, and penalties see `history` and the drafts before it.
    Drafts may have been drawn by `sample` with the same seed, stream and step + i: the verification has noise of its
    own. Logits are read as far as drafts are accepted; an invalid row of them ends its row, with -1 after the accepted
    drafts.

Returns
-------
Verified
    tokens, int32 [..., n + 1]: the accepted drafts, one more token, then -1. accepted, int64 [...]: how many drafts.

Raises
------
ValueError, TypeError
    For an illegal argument, before any work.
InvalidLogitsError
    For rows that met logits that nothing can be drawn from.

Examples
--------
>>> import numpy as np
>>> import tokendraw as td
>>> target = np.log(np.float32([[0.1, 0.8, 0.1], [0.7, 0.2, 0.1], [0.2, 0.2, 0.6]]))
>>> td.verify_draft([1, 0], np.log(np.float32([[0.2, 0.6, 0.2], [0.5, 0.4, 0.1]])), target, top_k=1)
Verified(tokens=array([1, 0, 2], dtype=int32), accepted=2)

The second draft is not what the target would say; its first token is drawn in its place:

>>> td.verify_draft([1, 1], None, target, top_k=1)
Verified(tokens=array([ 1,  0, -1], dtype=int32), accepted=1)
)";

}  // namespace

void bind_speculative(py::module_& module) {
  static PyMethodDef functions[] = {
      fast_method("verify_draft", verify_draft, kVerifyDraftDoc),
      {nullptr, nullptr, 0, nullptr},
  };
  add_functions(module, functions);
}

}  // namespace tokendraw::bindings
