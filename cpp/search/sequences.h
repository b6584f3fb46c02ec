// SPDX-License-Identifier: Apache-2.0
// Sequences that share their beginnings: a token and what stands before it. Freed when nothing goes on from there, so
// memory follows the sequences that are alive.
#pragma once

#include <cstdint>
#include <vector>

namespace tokendraw::search {

class Sequences {
 public:
  /// The end of a sequence; kEmpty is the empty one.
  using Node = std::int32_t;
  static constexpr Node kEmpty = -1;

  /// The sequence that goes on with one more token. The caller holds it, and drops it with release().
  Node append(Node parent, std::int32_t token, double logprob) {
    retain(parent);
    Node node = free_;
    if (node == kEmpty) {
      node = static_cast<Node>(entries_.size());
      entries_.emplace_back();
    } else {
      free_ = entry(node).parent;
    }
    entry(node) = {parent, token, 1, logprob};
    return node;
  }

  void retain(Node node) {
    if (node != kEmpty) ++entry(node).holders;
  }

  void release(Node node) {
    while (node != kEmpty && --entry(node).holders == 0) {
      const Node parent = entry(node).parent;
      entry(node).parent = free_;
      free_ = node;
      node = parent;
    }
  }

  /// visit(token, logprob), the last token first.
  template <class Visit>
  void for_each_backwards(Node node, Visit visit) const {
    for (; node != kEmpty; node = entry(node).parent) visit(entry(node).token, entry(node).logprob);
  }

  std::int32_t last_token(Node node) const { return entry(node).token; }

  std::size_t allocated() const { return entries_.size(); }

 private:
  struct Entry {
    Node parent;  // where free, the next free one
    std::int32_t token;
    std::int32_t holders;
    double logprob;
  };

  Entry& entry(Node node) { return entries_[static_cast<std::size_t>(node)]; }
  const Entry& entry(Node node) const { return entries_[static_cast<std::size_t>(node)]; }

  std::vector<Entry> entries_;
  Node free_ = kEmpty;
};

}  // namespace tokendraw::search
