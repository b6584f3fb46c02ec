// SPDX-License-Identifier: Apache-2.0
#include "search/best_first.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace tokendraw::search {
namespace {

constexpr double kNever = -HUGE_VAL;
constexpr std::int64_t kNoNode = -1;

}  // namespace

BestFirst::BestFirst(BestFirstParams params)
    : params_(std::move(params)),
      longest_divisor_(std::pow(static_cast<double>(params_.max_length), params_.length_penalty)),
      left_out_(kNever),
      dropped_(kNever) {
  Node root{};
  root.parent = -1;
  root.token = -1;
  root.more = true;
  root.bound = bound_of(0.0, 1);
  nodes_.push_back(root);
  open(0);
}

void BestFirst::next(std::int64_t count, std::vector<Reading>& readings) {
  readings.clear();
  const auto wanted = static_cast<std::size_t>(count);
  if (dive_ != kNoNode && at(dive_).bound > kNever && at(dive_).taken == 0) {
    take(dive_, readings);
    if (!readings.empty()) {
      dive_ = readings.front().node;
      return;
    }
  }
  dive_ = kNoNode;
  while (readings.size() < wanted) {
    discard_outdated();
    if (heap_.empty()) break;
    const Entry top = heap_.front();
    discard_top();
    if (can_enter(top.bound, shortest_below(at(top.node)))) {
      take(top.node, readings);
    } else {
      leave_out(top.bound);
      at(top.node).bound = kNever;
    }
  }
}

void BestFirst::expand(std::int64_t node, const std::int32_t* tokens, const float* logprobs, std::int64_t count,
                       bool more) {
  stop_waiting(node);
  Node& parent = at(node);
  const std::int32_t known = parent.listed;
  list(parent, tokens, logprobs, count);
  // A row that has nothing new to say has nothing more.
  parent.more = more && parent.listed > known;
  offer_listed(node, known);
  forget_hopeless(parent);
  open(node);
  if (parent.bound > kNever) return;
  children_.resize(static_cast<std::size_t>(parent.first_child));
  parent.listed = parent.taken = 0;
}

void BestFirst::drop(std::int64_t node) {
  stop_waiting(node);
  dropped_ = std::max(dropped_, at(node).bound);
  at(node).bound = kNever;
}

double BestFirst::bound() {
  discard_outdated();
  double best = std::max(left_out_, dropped_);
  if (!heap_.empty()) best = std::max(best, heap_.front().bound);
  for (const std::int64_t node : waiting_) best = std::max(best, at(node).bound);
  return best;
}

bool BestFirst::proved() {
  const auto may_enter = [&](double bound) { return bound > kNever && can_enter(bound, 0); };
  if (may_enter(dropped_)) return false;
  for (const std::int64_t node : waiting_) {
    if (may_enter(at(node).bound)) return false;
  }
  return std::none_of(heap_.begin(), heap_.end(), [&](const Entry& entry) {
    return is_current(entry) && can_enter(entry.bound, shortest_below(at(entry.node)));
  });
}

std::vector<Completion> BestFirst::found() const {
  std::vector<Completion> sorted = found_;
  std::sort(sorted.begin(), sorted.end(), [&](const Completion& a, const Completion& b) { return outranks(a, b); });
  return sorted;
}

void BestFirst::path(std::int64_t node, std::vector<std::int64_t>& nodes, std::vector<std::int32_t>& tokens,
                     std::vector<float>& logprobs) const {
  const auto depth = static_cast<std::size_t>(at(node).depth);
  nodes.resize(depth);
  tokens.resize(depth);
  logprobs.resize(depth);
  for (std::size_t place = depth; place-- > 0; node = at(node).parent) {
    nodes[place] = node;
    tokens[place] = at(node).token;
    logprobs[place] = at(node).token_logprob;
  }
}

// ---- the heap ----

bool BestFirst::is_less_promising(const Entry& a, const Entry& b) {
  if (a.bound != b.bound) return a.bound < b.bound;
  // Of equal ones the deeper is nearer to a completion.
  if (a.depth != b.depth) return a.depth < b.depth;
  return a.node > b.node;
}

bool BestFirst::is_current(const Entry& entry) const {
  const Node& node = at(entry.node);
  return !node.waiting && entry.taken == node.taken && entry.bound == node.bound;
}

void BestFirst::discard_top() {
  std::pop_heap(heap_.begin(), heap_.end(), is_less_promising);
  heap_.pop_back();
}

void BestFirst::discard_outdated() {
  while (!heap_.empty() && !is_current(heap_.front())) discard_top();
}

// ---- what may still be found ----

double BestFirst::score(double logprob, std::int32_t length) const {
  return params_.length_penalty == 0.0 ? logprob
                                       : logprob / std::pow(static_cast<double>(length), params_.length_penalty);
}

/// The highest score of a completion that begins with this log-probability and has at least `shortest` tokens.
double BestFirst::bound_of(double logprob, std::int32_t shortest) const {
  return params_.length_penalty >= 0.0 ? logprob / longest_divisor_ : score(logprob, shortest);
}

/// The length of the shortest completion among what was not read below a node.
std::int32_t BestFirst::shortest_below(const Node& node) const { return node.depth + (node.more ? 1 : 2); }

bool BestFirst::ends(const Node& parent, std::int32_t token) const {
  return parent.depth + 1 == params_.max_length || std::binary_search(params_.ends.begin(), params_.ends.end(), token);
}

bool BestFirst::can_enter(double bound, std::int32_t shortest) const {
  if (found_.size() < static_cast<std::size_t>(params_.num_return)) return true;
  const Completion& worst = found_.front();
  return bound > worst.score || (bound == worst.score && shortest <= worst.length);
}

void BestFirst::leave_out(double bound) { left_out_ = std::max(left_out_, bound); }

// ---- the children of a node ----

/// Appends what is new among the candidates to what is known of a node; its list moves to the end of the arena.
void BestFirst::list(Node& node, const std::int32_t* tokens, const float* logprobs, std::int64_t count) {
  const auto known = static_cast<std::size_t>(node.listed);
  const auto old = static_cast<std::size_t>(node.first_child);
  const std::size_t first = children_.size();
  std::vector<std::int32_t> known_tokens(known);
  for (std::size_t i = 0; i < known; ++i) {
    known_tokens[i] = children_[old + i].token;
    children_.push_back(children_[old + i]);
  }
  std::sort(known_tokens.begin(), known_tokens.end());
  float ceiling = known ? children_.back().logprob : 0.0f;
  for (std::int64_t i = 0; i < count; ++i) {
    if (!(logprobs[i] > kNever)) continue;
    if (std::binary_search(known_tokens.begin(), known_tokens.end(), tokens[i])) continue;
    ceiling = std::min(ceiling, logprobs[i]);
    children_.push_back({ceiling, tokens[i]});
  }
  node.first_child = static_cast<std::int64_t>(first);
  node.listed = static_cast<std::int32_t>(children_.size() - first);
}

void BestFirst::offer_listed(std::int64_t node, std::int32_t first) {
  const Node& parent = at(node);
  for (std::int32_t rank = first; rank < parent.listed; ++rank) {
    const Child& last = child(parent, rank);
    if (!ends(parent, last.token)) continue;
    const double logprob = parent.logprob + static_cast<double>(last.logprob);
    const std::int32_t length = parent.depth + 1;
    offer({score(logprob, length), logprob, node, last.token, rank, length, last.logprob});
  }
}

void BestFirst::offer(const Completion& completion) {
  const auto is_better = [&](const Completion& a, const Completion& b) { return outranks(a, b); };
  found_.push_back(completion);
  std::push_heap(found_.begin(), found_.end(), is_better);
  if (found_.size() <= static_cast<std::size_t>(params_.num_return)) return;
  std::pop_heap(found_.begin(), found_.end(), is_better);
  leave_out(found_.back().score);
  found_.pop_back();
}

/// Gives back the memory of the last children, of those that were just listed, which cannot enter the result.
void BestFirst::forget_hopeless(Node& node) {
  const std::int32_t shortest = shortest_below(node);
  for (; node.listed > node.taken; --node.listed) {
    const double bound = bound_of(node.logprob + static_cast<double>(child(node, node.listed - 1).logprob), shortest);
    if (can_enter(bound, shortest)) break;
    // A completion was offered; what is left out is what may follow other children, or the rest of the row.
    if (node.more || !ends(node, child(node, node.listed - 1).token)) leave_out(bound);
    node.more = false;
    children_.pop_back();
  }
}

/// Puts the node's next child, or the rest of its row, into the heap; what cannot enter the result is left out.
void BestFirst::open(std::int64_t node) {
  Node& parent = at(node);
  while (parent.taken < parent.listed && ends(parent, child(parent, parent.taken).token)) ++parent.taken;
  parent.bound = kNever;
  if (parent.taken == parent.listed && !parent.more) return;
  double logprob = parent.logprob;
  if (parent.listed > 0) {
    const std::int32_t next = std::min(parent.taken, parent.listed - 1);
    logprob += static_cast<double>(child(parent, next).logprob);
  }
  const double bound = bound_of(logprob, shortest_below(parent));
  if (!can_enter(bound, shortest_below(parent))) {
    leave_out(bound);
    return;
  }
  parent.bound = bound;
  heap_.push_back({bound, node, parent.depth, parent.taken});
  std::push_heap(heap_.begin(), heap_.end(), is_less_promising);
}

void BestFirst::take(std::int64_t node, std::vector<Reading>& readings) {
  const Node& parent = at(node);
  if (parent.taken < parent.listed) {
    take_child(node, readings);
    return;
  }
  readings.push_back({node, parent.parent, parent.token, parent.depth, parent.listed});
  wait(node);
}

void BestFirst::take_child(std::int64_t node, std::vector<Reading>& readings) {
  Node& parent = at(node);
  const std::int32_t rank = parent.taken++;
  const Child chosen = child(parent, rank);
  Node made{};
  made.logprob = parent.logprob + static_cast<double>(chosen.logprob);
  made.parent = node;
  made.token = chosen.token;
  made.token_logprob = chosen.logprob;
  made.rank = rank;
  made.depth = parent.depth + 1;
  made.bound = bound_of(made.logprob, made.depth + 1);
  open(node);
  if (!can_enter(made.bound, made.depth + 1)) {
    leave_out(made.bound);
    return;
  }
  const auto id = static_cast<std::int64_t>(nodes_.size());
  nodes_.push_back(made);
  readings.push_back({id, node, made.token, made.depth, 0});
  wait(id);
}

void BestFirst::wait(std::int64_t node) {
  at(node).waiting = true;
  waiting_.push_back(node);
}

void BestFirst::stop_waiting(std::int64_t node) {
  at(node).waiting = false;
  waiting_.erase(std::find(waiting_.begin(), waiting_.end(), node));
}

// ---- the order of completions ----

bool BestFirst::outranks(const Completion& a, const Completion& b) const {
  if (a.score != b.score) return a.score > b.score;
  if (a.length != b.length) return a.length < b.length;
  // Of equal length, so both paths climb to their last common node together.
  std::int32_t rank_a = a.rank, rank_b = b.rank;
  for (std::int64_t i = a.node, j = b.node; i != j; i = at(i).parent, j = at(j).parent) {
    rank_a = at(i).rank;
    rank_b = at(j).rank;
  }
  return rank_a < rank_b;
}

}  // namespace tokendraw::search
