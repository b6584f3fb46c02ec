// SPDX-License-Identifier: Apache-2.0
// What the core allocates, counted: nothing after the first call of a size; and what it does where there is no more.
#include <atomic>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "cpu/allocations.h"
#include "cpu/backend.h"
#include "cpu/batch.h"
#include "cpu/threads.h"
#include "plan/plan.h"

namespace {

std::atomic<std::int64_t> allocations{0};  // of all threads
std::atomic<std::int64_t> refusals{0};
std::atomic<std::int64_t> allocations_left{-1};
std::atomic<bool> stays_out{false};

/// Counts, and is the one that fails, or one of those after it.
bool is_refused() {
  ++allocations;
  if (allocations_left < 0) return false;
  const std::int64_t left = allocations_left--;
  if (left != 0) return false;
  if (stays_out) allocations_left = 0;
  ++refusals;
  return true;
}

void* allocate(std::size_t size) {
  if (!is_refused()) {
    if (void* memory = std::malloc(size)) return memory;
  }
  throw std::bad_alloc();
}

}  // namespace

// Not inlined: gcc would take free() for the wrong partner of operator new.
#define NOT_INLINED __attribute__((noinline))
NOT_INLINED void* operator new(std::size_t size) { return allocate(size); }
NOT_INLINED void* operator new(std::size_t size, std::align_val_t alignment) {
  const auto step = static_cast<std::size_t>(alignment);
  if (!is_refused()) {
    if (void* memory = std::aligned_alloc(step, (size + step - 1) / step * step)) return memory;
  }
  throw std::bad_alloc();
}
NOT_INLINED void* operator new(std::size_t size, std::align_val_t alignment, const std::nothrow_t&) noexcept {
  try {
    return operator new(size, alignment);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}
NOT_INLINED void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  try {
    return operator new(size);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}
NOT_INLINED void operator delete(void* memory) noexcept { std::free(memory); }
NOT_INLINED void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
NOT_INLINED void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
NOT_INLINED void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

std::int64_t tokendraw::test::allocations_so_far() { return allocations; }

namespace {

using namespace tokendraw;
using test::Batch;
using test::Drawn;

constexpr std::int64_t kRows = 12;
constexpr std::int64_t kVocab = 30000;  // two threads find enough to do
// Ten times slower, or emulated: there these loops take minutes, and tell nothing that they do not tell elsewhere.
#if defined(__SANITIZE_THREAD__) || defined(TOKENDRAW_EMULATED)
const std::vector<int> kThreadCounts{2};
#else
const std::vector<int> kThreadCounts{1, 2, 3};
#endif

/// One kind of request: all rows alike.
struct Job {
  std::string name;
  Request request;
};

/// The jobs of the budget table, and the edits.
class Jobs {
 public:
  explicit Jobs(int threads) : batch_(kRows, kVocab, threads) {
    allowed_.assign(kVocab, 1);
    bits_.assign((kVocab + 31) / 32, 0x7fffffff);
    bias_.assign(kVocab, 0.5f);
    for (std::int32_t token = 0; token < kVocab; token += 7) allowed_[static_cast<std::size_t>(token)] = 0;
    all_.push_back({"mixed rows", batch_.request()});
    FilterParams& greedy = add("greedy").params;
    greedy.temperature = {0.0};
    add("temperature").params.temperature = {0.7};
    add("top_k").params.top_k = {50};
    add("a long top_k").params.top_k = {5000};
    add("top_p").params.top_p = {0.95};
    add("min_p").params.min_p = {0.05};
    FilterParams& both = add("top_k and top_p").params;
    both.top_k = {50};
    both.top_p = {0.95};
    add("mask").edits.allowed = allowed_.data();
    Edits& bits = add("bitmask").edits;
    bits.allowed_bits = bits_.data();
    bits.allowed_words = static_cast<std::int64_t>(bits_.size());
    add("bias").edits.bias = bias_.data();
    Edits& few = add("bias of two tokens").edits;
    few.token_bias = token_bias_.data();
    few.token_bias_count = static_cast<std::int64_t>(token_bias_.size());
    add("typical").params.typical_p = {0.6};
    add("epsilon").params.epsilon_cutoff = {0.0002};
    add("eta").params.eta_cutoff = {0.0002};
    add("top_n_sigma").params.top_n_sigma = {1.0};
    FilterParams& xtc = add("xtc").params;
    xtc.xtc_probability = {1.0};
    xtc.xtc_threshold = {0.0001};
    FilterParams& list = add("typical and xtc of a list").params;
    list.top_k = {100};
    list.typical_p = {0.6};
    list.xtc_probability = {1.0};
    FilterParams& ties = add("joint, high ties").params;
    ties.steps = parse_steps({"top_k_top_p"});
    ties.top_k = {300};
    ties.top_p = {0.9};
    ties.top_p_ties = Ties::kHighest;
    add_penalties();
  }

  const std::vector<Job>& all() const { return all_; }

 private:
  void add_penalties() {
    for (std::int64_t row = 0; row <= kRows; ++row) offsets_.push_back(row * kHistory);
    for (std::int32_t i = 0; i < kRows * kHistory; ++i) history_.push_back(i * i % 997 % 50);
    Request& penalised = add("penalties");
    penalised.history.tokens = history_.data();
    penalised.history.offsets = offsets_.data();
    penalised.penalties.repetition = {1.2};
    penalised.penalties.frequency = {0.1};
    penalised.penalties.presence = {0.1};
    penalised.penalties.dry_multiplier = {0.8};
    penalised.penalties.min_tokens = {5};
    penalised.penalties.eos_tokens = {2, 29999};
  }

  Request& add(const char* name) {
    Request plain = batch_.request();
    plain.params = FilterParams{};
    all_.push_back({name, plain});
    return all_.back().request;
  }

  Batch batch_;
  std::vector<std::uint8_t> allowed_;
  std::vector<std::uint32_t> bits_;
  std::vector<float> bias_;
  std::vector<TokenBias> token_bias_{{3, 1.0f}, {29999, -2.0f}};
  static constexpr std::int64_t kHistory = 200;
  std::vector<std::int32_t> history_;
  std::vector<std::int64_t> offsets_;
  std::vector<Job> all_;
};

/// A call of the backend with room for its results, which compare equal where every value does.
class Call {
 public:
  Call(std::string name, const Request& request) : name(std::move(name)), request_(request), drawn_(kRows) {}
  virtual ~Call() = default;
  virtual void run() { drawn_.draw(request_); }
  virtual bool equals(const Call& other) const { return drawn_ == other.drawn_; }

  const std::string name;

 protected:
  const Request& request_;
  Drawn drawn_;
};

class TokensOnly final : public Call {
 public:
  using Call::Call;
  void run() override {
    DrawOutputs outputs;
    outputs.tokens = drawn_.tokens.data();
    cpu::backend().draw(request_, outputs, drawn_.status.data());
  }
};

class ScoreCall final : public Call {
 public:
  using Call::Call;
  void run() override {
    ScoreOutputs outputs;
    outputs.logprobs = drawn_.logprobs.data();
    outputs.ranks = drawn_.ranks.data();
    outputs.logsumexps = drawn_.raw_logprobs.data();
    outputs.entropies = drawn_.entropies.data();
    cpu::backend().score(request_, PerRow<std::int64_t>{29998}, outputs, drawn_.status.data());
  }
};

class LossCall final : public Call {
 public:
  LossCall(std::string name, const Request& request)
      : Call(std::move(name), request), warm_(request), losses_(kRows), gradient_(kRows * kVocab) {
    warm_.params = FilterParams{};
    targets_.tokens = {29998};
    targets_.label_smoothing = 0.1;
    outputs_ = {losses_.data(), {gradient_.data(), Dtype::kFloat32, {kRows}, {kVocab}}};
  }
  void run() override { cpu::backend().cross_entropy(warm_, targets_, outputs_, drawn_.status.data()); }
  bool equals(const Call& other) const override {
    const auto& same = dynamic_cast<const LossCall&>(other);
    return Drawn::same(gradient_, same.gradient_) &&
           std::equal(losses_.begin() + 4, losses_.end(), same.losses_.begin() + 4);
  }

 private:
  Request warm_;
  Targets targets_;
  std::vector<double> losses_;
  std::vector<float> gradient_;
  LossOutputs outputs_;
};

class DivergeCall final : public Call {
 public:
  DivergeCall(std::string name, const Request& request, Divergence kind)
      : Call(std::move(name), request), kind_(kind), warm_(request) {
    warm_.params = FilterParams{};
    other_ = request.logits;
    other_.leading_strides = {0};
  }
  void run() override { cpu::backend().diverge(warm_, other_, kind_, drawn_.logprobs.data(), drawn_.status.data()); }

 private:
  const Divergence kind_;
  Request warm_;
  Logits other_;
};

class TransformCall final : public Call {
 public:
  TransformCall(std::string name, const Request& request, Transform transform)
      : Call(std::move(name), request), transform_(transform), out_(kRows * kVocab) {}
  void run() override { cpu::backend().transform(request_, transform_, out_.data(), drawn_.status.data()); }
  bool equals(const Call& other) const override {
    return Drawn::same(out_, dynamic_cast<const TransformCall&>(other).out_);
  }

 private:
  const Transform transform_;
  std::vector<float> out_;
};

class TopKCall final : public Call {
 public:
  TopKCall(std::string name, const Request& request)
      : Call(std::move(name), request), values_(kRows * kBest), tokens_(kRows * kBest) {}
  void run() override { cpu::backend().top_k(request_, kBest, values_.data(), tokens_.data(), drawn_.status.data()); }
  bool equals(const Call& other) const override {
    const auto& same = dynamic_cast<const TopKCall&>(other);
    return Drawn::same(values_, same.values_) && tokens_ == same.tokens_;
  }

 private:
  static constexpr std::int64_t kBest = 20;
  std::vector<float> values_;
  std::vector<std::int32_t> tokens_;
};

class ListKept final : public Call {
 public:
  ListKept(std::string name, const Request& request) : Call(std::move(name), request), kept_(kRows) {}
  void run() override {
    for (KeptRow& row : kept_) row = {};
    cpu::backend().list_kept(request_, kept_.data(), drawn_.status.data());
  }
  bool equals(const Call& other) const override {
    const auto& same = dynamic_cast<const ListKept&>(other);
    return std::equal(kept_.begin(), kept_.end(), same.kept_.begin(), [](const KeptRow& a, const KeptRow& b) {
      return a.tokens == b.tokens && Drawn::same(a.logprobs, b.logprobs);
    });
  }

 private:
  std::vector<KeptRow> kept_;
};

/// The rows of a request as the positions of a third as many, each with two drafts.
class VerifyCall final : public Call {
 public:
  VerifyCall(std::string name, const Request& request, bool siblings)
      : Call(std::move(name), request), folded_(request), tokens_(kRows), accepted_(kRows / 3) {
    folded_.logits.rows = kRows / 3;
    folded_.logits.leading_shape = {kRows / 3};
    folded_.logits.leading_strides = {3 * kVocab};
    folded_.logits.position_stride = kVocab;
    folded_.params = FilterParams{};
    drafts_.count = 2;
    for (std::int32_t draft = 0; draft < 2 * kRows / 3; ++draft) drafted_.push_back(draft * 1013);
    drafts_.tokens = drafted_.data();
    parents_.assign(drafted_.size(), -1);
    if (siblings) drafts_.parents = parents_.data();
    drafts_.logits = folded_.logits;
  }
  void run() override {
    const VerifyOutputs outputs{tokens_.data(), accepted_.data()};
    cpu::backend().verify(folded_, drafts_, outputs, drawn_.status.data());
  }
  bool equals(const Call& other) const override {
    const auto& same = dynamic_cast<const VerifyCall&>(other);
    return tokens_ == same.tokens_ && accepted_ == same.accepted_;
  }

 private:
  Request folded_;
  Drafts drafts_;
  std::vector<std::int32_t> drafted_;
  std::vector<std::int32_t> parents_;
  std::vector<std::int32_t> tokens_;
  std::vector<std::int64_t> accepted_;
};

using Calls = std::vector<std::unique_ptr<Call>>;

/// Every call that fills buffers of the caller.
Calls calls_without_lists(const Jobs& jobs) {
  Calls calls;
  for (const Job& job : jobs.all()) {
    calls.push_back(std::make_unique<TokensOnly>(job.name, job.request));
    calls.push_back(std::make_unique<Call>(job.name + ", all outputs", job.request));
    calls.push_back(std::make_unique<TransformCall>(job.name + ", logprobs", job.request, Transform::kLogprobs));
  }
  const Request& mixed = jobs.all().front().request;
  calls.push_back(std::make_unique<TransformCall>("probs", mixed, Transform::kProbs));
  calls.push_back(std::make_unique<TransformCall>("scores", mixed, Transform::kScores));
  calls.push_back(std::make_unique<TopKCall>("top_k", mixed));
  calls.push_back(std::make_unique<ScoreCall>("scores of a token", mixed));
  calls.push_back(std::make_unique<LossCall>("losses", mixed));
  calls.push_back(std::make_unique<DivergeCall>("KL", mixed, Divergence::kKullbackLeibler));
  calls.push_back(std::make_unique<DivergeCall>("JS", mixed, Divergence::kJensenShannon));
  calls.push_back(std::make_unique<VerifyCall>("verify a chain", mixed, false));
  calls.push_back(std::make_unique<VerifyCall>("verify siblings", mixed, true));
  return calls;
}

/// One call of each job, and one of each other kind: every allocation of all of them takes minutes.
[[maybe_unused]] Calls one_call_of_each(const Jobs& jobs) {
  Calls calls;
  for (const Job& job : jobs.all()) calls.push_back(std::make_unique<Call>(job.name + ", all outputs", job.request));
  const Request& mixed = jobs.all().front().request;
  calls.push_back(std::make_unique<TokensOnly>("tokens", mixed));
  calls.push_back(std::make_unique<TransformCall>("logprobs", mixed, Transform::kLogprobs));
  calls.push_back(std::make_unique<TransformCall>("probs", mixed, Transform::kProbs));
  calls.push_back(std::make_unique<TransformCall>("scores", mixed, Transform::kScores));
  calls.push_back(std::make_unique<TopKCall>("top_k", mixed));
  calls.push_back(std::make_unique<ScoreCall>("scores of a token", mixed));
  calls.push_back(std::make_unique<LossCall>("losses", mixed));
  calls.push_back(std::make_unique<DivergeCall>("KL", mixed, Divergence::kKullbackLeibler));
  calls.push_back(std::make_unique<DivergeCall>("JS", mixed, Divergence::kJensenShannon));
  calls.push_back(std::make_unique<VerifyCall>("verify a chain", mixed, false));
  calls.push_back(std::make_unique<VerifyCall>("verify siblings", mixed, true));
  return calls;
}

/// On a thread that has never called the core.
template <class Body>
void on_a_cold_thread(const Body& body) {
  std::thread(body).join();
}

std::int64_t allocations_of(Call& call) {
  const std::int64_t before = allocations;
  call.run();
  return allocations - before;
}

// ---- steady state -----------------------------------------------------------------------------------------

TEST(the_second_call_of_a_size_allocates_nothing) {
  for (const int threads : kThreadCounts) {
    const Jobs jobs(threads);
    for (const std::unique_ptr<Call>& call : calls_without_lists(jobs)) {
      on_a_cold_thread([&] {
        CHECK_WITH(allocations_of(*call) > 0, call->name);
        for (int repeat = 0; repeat < 3; ++repeat) {
          const std::int64_t more = allocations_of(*call);
          CHECK_WITH(more == 0, call->name + ", threads " + test::shown(threads) + ": " + test::shown(more));
        }
      });
    }
  }
}

TEST(kept_lists_are_all_that_is_allocated_for_them) {
  constexpr std::int64_t kListsPerRow = 2;
  const Jobs jobs(2);
  for (const Job& job : jobs.all()) {
    ListKept call(job.name, job.request);
    call.run();
    CHECK_WITH(allocations_of(call) == kListsPerRow * (kRows - 1), job.name);  // one row is invalid
  }
}

// ---- no more memory ---------------------------------------------------------------------------------------

class MemoryLimit {
 public:
  MemoryLimit(std::int64_t allocations, bool for_good) {
    stays_out = for_good;
    allocations_left = allocations;
  }
  ~MemoryLimit() { allocations_left = -1; }
};

#if !defined(__SANITIZE_THREAD__) && !defined(TOKENDRAW_EMULATED)

/// Whether the call went through.
bool runs_within(std::int64_t allocations_allowed, bool for_good, Call& call) {
  const MemoryLimit limit(allocations_allowed, for_good);
  try {
    call.run();
    return true;
  } catch (const std::bad_alloc&) {
    return false;
  }
}

/// Fails the allocations of a cold call one by one: it must say so or answer right, and the next call must be right.
void check_every_failure(Call& call, Call& expected, bool for_good) {
  expected.run();
  bool more = true;
  for (std::int64_t position = 0; more; ++position) {
    on_a_cold_thread([&] {
      const std::string place = call.name + ", allocation " + test::shown(position);
      const std::int64_t before = refusals;
      const bool ran = runs_within(position, for_good, call);
      more = refusals > before;
      CHECK_WITH(more || ran, place);
      if (ran) CHECK_WITH(call.equals(expected), place);
      call.run();
      CHECK_WITH(call.equals(expected), "after " + place);
    });
  }
}

TEST(a_failed_allocation_is_told_and_leaves_nothing_behind) {
  for (const int threads : {1, 2}) {
    const Jobs jobs(threads);
    for (const bool for_good : {false, true}) {
      const Calls calls = one_call_of_each(jobs), twins = one_call_of_each(jobs);
      for (std::size_t i = 0; i < calls.size(); ++i) check_every_failure(*calls[i], *twins[i], for_good);
      ListKept lists("lists", jobs.all().front().request), expected("lists", jobs.all().front().request);
      check_every_failure(lists, expected, for_good);
    }
  }
}

#endif

TEST(a_pool_that_cannot_grow_does_the_work_with_what_it_has) {
  constexpr int kFailures = 24;
  constexpr int kFirstThreads = 4;  // more than any other test of this file asks for
  for (int position = 0; position < kFailures; ++position) {
    std::atomic<std::int64_t> sum{0};
    const MemoryLimit limit(position % 6, position % 2 == 0);
    cpu::parallel_for(200, kFirstThreads + position, [&](int, std::int64_t task) { sum += task; });
    CHECK_EQUAL(sum.load(), std::int64_t{19900});
  }
}

}  // namespace
