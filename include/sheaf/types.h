// Identities and addresses: the few small values that name things of a cluster.

#pragma once

#include <compare>
#include <cstdint>
#include <functional>

namespace sheaf {

/// \brief A node: one coherence domain. Its segment has the same number: segment k is
/// homed at node k.
struct NodeId {
  uint32_t value = 0;
  auto operator<=>(const NodeId&) const = default;
};

/// \brief One node's share of the region. Its home, the node of the same number, writes
/// its control part.
struct SegmentId {
  uint32_t value = 0;
  auto operator<=>(const SegmentId&) const = default;
};

/// \brief A place in shared memory that means the same to every process of every node:
/// `offset` is bytes from the start of the data part of `segment`. Never a pointer.
struct GlobalAddress {
  SegmentId segment;
  uint64_t offset = 0;
  auto operator<=>(const GlobalAddress&) const = default;
};

/// \brief `size_bytes` bytes from `begin` on, all in one segment.
struct GlobalRange {
  GlobalAddress begin;
  uint64_t size_bytes = 0;
  uint64_t end_offset() const { return begin.offset + size_bytes; }
  auto operator<=>(const GlobalRange&) const = default;
};

/// \brief Identity of an object, for ever: a slot is reused, a generation never is.
struct ObjectId {
  SegmentId segment;
  uint32_t slot = 0;
  uint64_t generation = 0;
  auto operator<=>(const ObjectId&) const = default;
};

}  // namespace sheaf

template <>
struct std::hash<sheaf::ObjectId> {
  size_t operator()(const sheaf::ObjectId& id) const noexcept {
    uint64_t key = id.generation * 0x9E3779B97F4A7C15ULL;
    key ^= (uint64_t{id.segment.value} << 32) | id.slot;
    return static_cast<size_t>(key * 0xFF51AFD7ED558CCDULL);
  }
};
