// SPDX-License-Identifier: Apache-2.0
// Beam search: the state across steps as an object, and a step as a call with logits.
#include <algorithm>
#include <atomic>
#include <memory>
#include <tuple>
#include <utility>

#include "bindings/bind.h"
#include "bindings/calls.h"
#include "bindings/device.h"
#include "bindings/gil.h"
#include "bindings/penalties.h"
#include "bindings/values.h"
#include "cpu/backend.h"
#include "plan/plan.h"
#include "plan/unsupported.h"
#include "search/beam.h"

namespace tokendraw::bindings {
namespace {

using search::BeamSearch;
using search::Hypothesis;

/// A search that one thread at a time may step.
struct SharedSearch {
  explicit SharedSearch(BeamSearch search) : search(std::move(search)) {}
  BeamSearch search;
  std::atomic<bool> busy{false};
};

class Turn {
 public:
  explicit Turn(SharedSearch& shared) : shared_(shared) {
    if (shared.busy.exchange(true))
      throw std::runtime_error("a beam search must not be stepped by two threads at once");
  }
  ~Turn() { shared_.busy = false; }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

 private:
  SharedSearch& shared_;
};

EarlyStopping parse_early_stopping(py::handle value) {
  if (PyBool_Check(value.ptr())) return value.ptr() == Py_True ? EarlyStopping::kTrue : EarlyStopping::kFalse;
  if (PyUnicode_Check(value.ptr())) {
    if (PyUnicode_CompareWithASCIIString(value.ptr(), "never") == 0) return EarlyStopping::kNever;
    if (PyUnicode_CompareWithASCIIString(value.ptr(), "exhaust") == 0) return EarlyStopping::kExhaust;
  }
  value_error("early_stopping must be False, True, \"never\" or \"exhaust\", got " + repr_of(value));
}

std::vector<BeamPrompt> parse_prompts(const py::list& prompts) {
  std::vector<BeamPrompt> parsed;
  for (const py::handle item : prompts) {
    const auto [tokens, width, limit, seed, stream] =
        item.cast<std::tuple<std::vector<std::int32_t>, std::int64_t, std::int64_t, std::uint64_t, std::uint64_t>>();
    parsed.push_back({width, limit, seed, stream, tokens});
  }
  return parsed;
}

std::unique_ptr<SharedSearch> make_search(const py::list& prompts, const py::dict& options) {
  BeamParams params;
  params.length_penalty = options["length_penalty"].cast<double>();
  params.early_stopping = parse_early_stopping(options["early_stopping"]);
  params.length_rule = static_cast<LengthRule>(
      parse_choice(options["length"], "length", {"generated", "generated_without_eos", "sequence_without_eos"}));
  params.choice = static_cast<BeamChoice>(parse_choice(options["choice"], "choice", {"best", "sampled", "stochastic"}));
  params.any_rank_finishes = parse_choice(options["finishing"], "finishing", {"top", "all"}) == 1;
  params.eos_tokens = options["eos_tokens"].cast<std::vector<std::int32_t>>();
  params.min_new_tokens = parse_count(options["min_new_tokens"], "min_new_tokens");
  params.no_repeat_ngram = parse_count(options["no_repeat_ngram_size"], "no_repeat_ngram_size");
  params.candidates = parse_count(options["candidates"], "candidates");
  params.patience = options["patience"].cast<double>();
  params.groups = parse_count(options["num_groups"], "num_groups", 1);
  params.diversity_penalty = options["diversity_penalty"].cast<double>();
  params.renormalize = options["renormalize"].cast<bool>();
  params.step = options["step"].cast<std::uint32_t>();
  std::vector<BeamPrompt> parsed = parse_prompts(prompts);
  check_beam_search(params, parsed);
  return std::make_unique<SharedSearch>(BeamSearch(std::move(params), std::move(parsed)));
}

void check_logits(const ParsedRequest& parsed, const BeamSearch& search) {
  if (search.rows() == 0) value_error("a beam search must have a prompt that is not done, got none");
  if (parsed.leading_shape.size() != 1 || parsed.rows() != search.rows()) {
    value_error("logits must have " + std::to_string(search.rows()) + " rows, one per " +
                (search.steps() == 0 ? "prompt" : "live beam") + ", got an array of shape " +
                repr_of(py::tuple(py::cast(parsed.leading_shape))) + " before the vocab");
  }
  for (const std::int32_t token : search.params().eos_tokens) {
    check_token("eos_token_id", token, parsed.vocab(), "");
  }
}

/// The noise of every row.
void fill_randomness(const BeamSearch& search, ParsedRequest& parsed) {
  std::vector<std::uint64_t> seeds, streams, steps;
  for (std::int64_t row = 0; row < search.rows(); ++row) {
    const RandomSource random = search.random_of_row(row);
    seeds.push_back(random.seed);
    streams.push_back(random.stream);
    steps.push_back(random.step);
  }
  Randomness& randomness = parsed.request.randomness;
  const auto hold = [&](std::vector<std::uint64_t>&& values) {
    return parsed.unsigneds.emplace_back(std::move(values)).data();
  };
  randomness.seed.values = hold(std::move(seeds));
  randomness.stream.values = hold(std::move(streams));
  randomness.step.values = hold(std::move(steps));
  randomness.stream_is_row = false;
}

/// The tokens before every row, where a penalty asks for them.
void fill_history(const BeamSearch& search, ParsedRequest& parsed) {
  if (!reads_history(parsed.request.penalties)) return;
  std::vector<std::int64_t>& lengths = parsed.integers.emplace_back();
  parsed.history_offsets.assign(1, 0);
  for (std::int64_t row = 0; row < search.rows(); ++row) {
    const std::vector<std::int32_t> history = search.history_of_row(row);
    parsed.history.insert(parsed.history.end(), history.begin(), history.end());
    parsed.history_offsets.push_back(static_cast<std::int64_t>(parsed.history.size()));
    lengths.push_back(static_cast<std::int64_t>(history.size()) - search.steps());
  }
  History& history = parsed.request.history;
  history.tokens = parsed.history.data();
  history.offsets = parsed.history_offsets.data();
  history.prompt_lengths.values = lengths.data();
  check_tokens(history, parsed.request.penalties, parsed.vocab());
}

/// A row is invalid for every group that reads it, or for none.
std::vector<RowStatus> status_of_rows(const Beams& beams, const std::vector<RowStatus>& status, std::int64_t rows) {
  std::vector<RowStatus> of_rows(static_cast<std::size_t>(rows), RowStatus::kValid);
  for (std::int64_t i = 0; i < beams.count; ++i) {
    const BeamGroup& group = beams.groups[i];
    std::copy_n(status.begin() + group.first_beam, group.beams, of_rows.begin() + group.first_row);
  }
  return of_rows;
}

template <class T>
py::object copied(Dtype dtype, const std::vector<T>& values) {
  Result result(Home{}, dtype, {static_cast<std::int64_t>(values.size())});
  std::copy(values.begin(), values.end(), static_cast<T*>(result.data()));
  return result.finish();
}

/// What a step asks of the logits.
struct Answer {
  std::vector<Continuation> found;
  std::vector<RowStatus> of_beams;
};

/// The few continuations are read back: the search goes on here.
void ask_device(ParsedRequest& parsed, Beams beams, Answer& answer) {
  check_beams_on_device(parsed.request, beams);
  cuda::Module& module = cuda_module(parsed.home.device);
  const std::shared_ptr<cuda::Memory> memory = memory_in_use();
  const ReleasedGil released;
  DeviceCall call(parsed, module, memory.get());
  if (call->is_captured()) {
    throw std::runtime_error("BeamSearch.step must not be called while a graph is captured: it waits for the device");
  }
  const std::size_t bytes = answer.found.size() * sizeof(Continuation);
  auto* found = static_cast<Continuation*>(call->scratch(bytes));
  auto* status = static_cast<RowStatus*>(call->scratch(answer.of_beams.size()));
  beams.device_scores = {call->copied(beams.scores, answer.of_beams.size() * sizeof(double), "scores"),
                         Dtype::kFloat64};
  call->backend(false).top_continuations(parsed.request, beams, found, status);
  call->read_back(answer.found.data(), found, bytes);
  call->read_back(answer.of_beams.data(), status, answer.of_beams.size());
}

void ask_host(const ParsedRequest& parsed, const Beams& beams, Answer& answer) {
  const ReleasedGil released;
  cpu::backend().top_continuations(parsed.request, beams, answer.found.data(), answer.of_beams.data());
}

/// What is written to an array at home.
struct Written {
  void* to;
  const void* from;
  std::size_t bytes;
};

void write_at_home(const Home& home, std::initializer_list<Written> all) {
  if (!home.cuda) {
    for (const Written& one : all)
      std::copy_n(static_cast<const char*>(one.from), one.bytes, static_cast<char*>(one.to));
    return;
  }
  cuda::Module& module = cuda_module(home.device);
  const std::shared_ptr<cuda::Memory> memory = memory_in_use();
  const ReleasedGil released;
  const std::unique_ptr<cuda::Call> call = module.call(home.device, home.stream, memory.get());
  for (const Written& one : all) call->write(one.to, one.from, one.bytes);
}

template <class T>
Written written(Result& result, const std::vector<T>& values) {
  return {result.data(), values.data(), values.size() * sizeof(T)};
}

/// The continuations that were found, with the rows they go on from.
struct Found {
  std::vector<std::int64_t> rows;
  std::vector<std::int32_t> tokens;
  std::vector<double> scores;
  std::vector<double> logprobs;
};

Found found_of(const Beams& beams, const std::vector<Continuation>& found) {
  Found all;
  for (std::int64_t i = 0; i < beams.count; ++i) {
    const BeamGroup& group = beams.groups[i];
    for (std::int64_t slot = group.first_slot; slot < group.first_slot + group.slots; ++slot) {
      const Continuation& c = found[static_cast<std::size_t>(slot)];
      if (c.token < 0) break;
      all.rows.push_back(group.first_row + c.parent);
      all.tokens.push_back(c.token);
      all.scores.push_back(c.priority);
      all.logprobs.push_back(c.score - beams.scores[group.first_beam + c.parent]);
    }
  }
  return all;
}

/// Ranks what was found by what the caller's scorer makes of it.
void score_anew(py::handle scorer, const Beams& beams, std::vector<Continuation>& found) {
  const Found all = found_of(beams, found);
  const py::object given = scorer(copied(Dtype::kInt64, all.rows), copied(Dtype::kInt32, all.tokens),
                                  copied(Dtype::kFloat64, all.scores), copied(Dtype::kFloat64, all.logprobs));
  const auto scores = given.cast<std::vector<double>>();
  if (scores.size() != all.scores.size()) {
    value_error("scorer must return one score per candidate (" + std::to_string(all.scores.size()) + "), got " +
                std::to_string(scores.size()));
  }
  check_scores(scores.data(), static_cast<std::int64_t>(scores.size()));
  auto score = scores.begin();
  for (std::int64_t i = 0; i < beams.count; ++i) {
    const auto begin = found.begin() + beams.groups[i].first_slot;
    const auto end = begin + beams.groups[i].slots;
    const auto last = std::find_if(begin, end, [](const Continuation& c) { return c.token < 0; });
    for (auto c = begin; c != last; ++c) c->priority = *score++;
    std::sort(begin, last, outranks);
  }
}

/// What the model reads next, and which rows had continuations: at home.
py::object step_of(const BeamSearch& search, const ParsedRequest& parsed, const std::vector<RowStatus>& status) {
  const auto array = [&](Dtype dtype, std::size_t size) {
    return Result(parsed.home, dtype, {static_cast<std::int64_t>(size)});
  };
  std::vector<std::uint8_t> is_valid(status.size());
  std::transform(status.begin(), status.end(), is_valid.begin(),
                 [](RowStatus row) { return row == RowStatus::kValid ? 1 : 0; });
  Result tokens = array(Dtype::kInt32, search.tokens().size());
  Result parents = array(Dtype::kInt64, search.parents().size());
  Result valid = array(Dtype::kBool, is_valid.size());
  write_at_home(parsed.home,
                {written(tokens, search.tokens()), written(parents, search.parents()), written(valid, is_valid)});
  const py::object next = tokens.finish();
  raise_invalid(parsed, status, next);
  return py::make_tuple(next, parents.finish(), valid.finish());
}

const Signature kBeamStep{"beam_step", {kKeySearch, kKeyLogits}, kFilterKeywords | kCallKeywords | set_of(kKeyScorer)};

PyObject* beam_step(PyObject* self, PyObject* const* values, Py_ssize_t count, PyObject* keywords) {
  return fast_call(self, values, count, keywords, kBeamStep, [](const Arguments& arguments) {
    auto& shared = arguments[kKeySearch].cast<SharedSearch&>();
    const Turn turn(shared);
    BeamSearch& search = shared.search;
    ParsedRequest parsed;
    parse_request(arguments, true, parsed);
    check_logits(parsed, search);
    if (!parsed.home.cuda) fill_randomness(search, parsed);
    fill_history(search, parsed);
    const Beams beams = search.ask();
    Answer answer{std::vector<Continuation>(static_cast<std::size_t>(search.slots())),
                  std::vector<RowStatus>(static_cast<std::size_t>(search.beams()))};
    if (parsed.home.cuda) {
      ask_device(parsed, beams, answer);
    } else {
      ask_host(parsed, beams, answer);
    }
    const std::vector<RowStatus> status = status_of_rows(beams, answer.of_beams, search.rows());
    if (arguments.has(kKeyScorer)) score_anew(arguments[kKeyScorer], beams, answer.found);
    search.advance(answer.found.data());
    return step_of(search, parsed, status);
  });
}

py::list best_of(const SharedSearch& shared, std::int64_t prompt, std::int64_t count) {
  py::list list;
  for (const Hypothesis& h : shared.search.best(prompt, count)) {
    list.append(py::make_tuple(h.tokens, h.score, h.logprob, h.logprobs, h.finished, h.log_inclusion));
  }
  return list;
}

template <class Value>
auto of_rows(Value value) {
  return [value](const SharedSearch& shared) {
    py::list list;
    for (std::int64_t row = 0; row < shared.search.rows(); ++row) list.append(value(shared.search, row));
    return list;
  };
}

std::vector<bool> done_of(const SharedSearch& shared) {
  std::vector<bool> done;
  for (std::int64_t prompt = 0; prompt < shared.search.prompts(); ++prompt) {
    done.push_back(shared.search.is_done(prompt));
  }
  return done;
}

}  // namespace

void bind_beam(py::module_& module) {
  py::class_<SharedSearch>(module, "_BeamSearch", "The state of a beam search, without any logits.", py::is_final(),
                           py::metaclass(reinterpret_cast<PyObject*>(&PyType_Type)))
      .def(py::init(&make_search), py::arg("prompts"), py::arg("options"))
      .def_property_readonly("rows", [](const SharedSearch& shared) { return shared.search.rows(); })
      .def_property_readonly("tokens", [](const SharedSearch& shared) { return shared.search.tokens(); })
      .def_property_readonly("parents", [](const SharedSearch& shared) { return shared.search.parents(); })
      .def_property_readonly("steps", [](const SharedSearch& shared) { return shared.search.steps(); })
      .def_property_readonly("allocated", [](const SharedSearch& shared) { return shared.search.allocated(); })
      .def_property_readonly("done", &done_of)
      .def_property_readonly("row_prompts",
                             of_rows([](const BeamSearch& s, std::int64_t row) { return s.prompt_of_row(row); }))
      .def_property_readonly("row_scores",
                             of_rows([](const BeamSearch& s, std::int64_t row) { return s.score_of_row(row); }))
      .def_property_readonly("histories",
                             of_rows([](const BeamSearch& s, std::int64_t row) { return s.history_of_row(row); }))
      .def("best", &best_of, py::arg("prompt"), py::arg("count"));
  static PyMethodDef functions[] = {
      fast_method("_beam_step", beam_step, "_beam_step(search, logits, **params)\n--\n\nFor `BeamSearch.step`."),
      {nullptr, nullptr, 0, nullptr},
  };
  add_functions(module, functions);
}

}  // namespace tokendraw::bindings
