// SPDX-License-Identifier: Apache-2.0
// Exact search for the best completions of a prompt: a heap of what may still be read, and an arena of what was read.
// It never sees a logit: of each row it is told the first candidates of the total order, and whether there are more.
#pragma once

#include <cstdint>
#include <vector>

namespace tokendraw::search {

struct BestFirstParams {
  std::int32_t max_length = 1;     // tokens of a completion
  std::int64_t num_return = 1;     // how many completions are wanted
  double length_penalty = 0.0;     // a completion scores logprob / length ^ length_penalty
  std::vector<std::int32_t> ends;  // the tokens that end a completion, ascending
};

/// What shall be read next: the row after a node. `listed` counts the candidates that are known of it already.
struct Reading {
  std::int64_t node;
  std::int64_t parent;  // -1 for the root, which is node 0
  std::int32_t token;
  std::int32_t depth;  // tokens after the prompt
  std::int32_t listed;
};

struct Completion {
  double score;
  double logprob;
  std::int64_t node;  // that the last token follows
  std::int32_t token;
  std::int32_t rank;  // of the last token among its siblings
  std::int32_t length;
  float token_logprob;
};

/// Log-probabilities only fall along a path, so what a node can still lead to is bounded by its own. Every node that
/// was read has at most one entry in the heap, that of its best child that was not: memory is O(nodes * listed
/// candidates).
///
/// Completions rank by score, then shorter first, then by the ranks of their tokens from the first one on, which makes
/// the result independent of the order in which nodes are read.
class BestFirst {
 public:
  explicit BestFirst(BestFirstParams params);

  /// Takes out at most `count` readings, the most promising first; none where nothing can change the result. It begins
  /// with the greedy path, one reading at a time: that costs little, and a search that is stopped has something to
  /// show.
  void next(std::int64_t count, std::vector<Reading>& readings);

  /// The first `count` candidates of a node that `next` gave, in the total order; `more`: the row has others. One at
  /// -inf is none. Where the node was read before, what is known stays as it is: a model's logits may move by a
  /// rounding.
  void expand(std::int64_t node, const std::int32_t* tokens, const float* logprobs, std::int64_t count, bool more);

  /// Gives up a node that `next` gave. What it would have led to is in the bound.
  void drop(std::int64_t node);

  /// No completion that was not found scores higher.
  double bound();

  /// Whether what was found is the best there is, and all there is where it is less than what was wanted.
  bool proved();

  /// The best completions so far, best first.
  std::vector<Completion> found() const;

  /// What leads from the prompt to a node, one entry per token.
  void path(std::int64_t node, std::vector<std::int64_t>& nodes, std::vector<std::int32_t>& tokens,
            std::vector<float>& logprobs) const;

  bool has(std::int64_t node) const { return 0 <= node && node < static_cast<std::int64_t>(nodes_.size()); }

  /// Whether `next` gave the node, and it was neither expanded nor dropped since.
  bool is_waiting(std::int64_t node) const { return has(node) && at(node).waiting; }

  /// Bounds what a node can still lead to; -inf where nothing is left.
  double promise(std::int64_t node) const { return at(node).bound; }

  double logprob(std::int64_t node) const { return at(node).logprob; }

 private:
  struct Child {
    float logprob;
    std::int32_t token;
  };

  struct Node {
    double logprob;  // of the path
    double bound;    // of the score of what was not read below it
    std::int64_t parent;
    std::int64_t first_child;  // in children_
    std::int32_t token;
    std::int32_t rank;
    std::int32_t depth;
    std::int32_t listed = 0;
    std::int32_t taken = 0;  // children that were read, or need not be
    float token_logprob;
    bool more = false;     // the row has candidates that were not listed
    bool waiting = false;  // to be read
  };

  struct Entry {
    double bound;
    std::int64_t node;
    std::int32_t depth;
    std::int32_t taken;  // as the node's, else the entry is out of date
  };

  Node& at(std::int64_t node) { return nodes_[static_cast<std::size_t>(node)]; }
  const Node& at(std::int64_t node) const { return nodes_[static_cast<std::size_t>(node)]; }
  const Child& child(const Node& node, std::int32_t rank) const {
    return children_[static_cast<std::size_t>(node.first_child + rank)];
  }

  static bool is_less_promising(const Entry& a, const Entry& b);
  bool is_current(const Entry& entry) const;
  void discard_top();
  void discard_outdated();

  double score(double logprob, std::int32_t length) const;
  double bound_of(double logprob, std::int32_t shortest) const;
  std::int32_t shortest_below(const Node& node) const;
  bool ends(const Node& parent, std::int32_t token) const;
  bool can_enter(double bound, std::int32_t shortest) const;

  void list(Node& node, const std::int32_t* tokens, const float* logprobs, std::int64_t count);
  void offer_listed(std::int64_t node, std::int32_t first);
  void offer(const Completion& completion);
  void forget_hopeless(Node& node);
  void open(std::int64_t node);
  void take(std::int64_t node, std::vector<Reading>& readings);
  void take_child(std::int64_t node, std::vector<Reading>& readings);
  void wait(std::int64_t node);
  void stop_waiting(std::int64_t node);
  void leave_out(double bound);
  bool outranks(const Completion& a, const Completion& b) const;

  const BestFirstParams params_;
  double longest_divisor_;
  std::vector<Node> nodes_;
  std::vector<Child> children_;
  std::vector<Entry> heap_;
  std::vector<Completion> found_;  // a heap with the worst on top
  std::vector<std::int64_t> waiting_;
  std::int64_t dive_ = 0;  // the end of the greedy path so far, while that is being read
  double left_out_;        // the best score of what was left out because it cannot enter
  double dropped_;         // and of what might enter
};

}  // namespace tokendraw::search
