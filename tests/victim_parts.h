// What the victim of a kill matrix does with tables in parts.

#pragma once

#include <memory>

#include <arrow/status.h>
#include <arrow/table.h>

#include "sheaf/sheaf.h"
#include "tests/seeded_table.h"

namespace sheaf::testing {

constexpr const char* kVictimBarrier = "victim";

/// \brief A table over bytes of another home's, which is removed meanwhile (O4).
inline arrow::Status ShareRemoved(const std::shared_ptr<Store>& store,
                                  const std::shared_ptr<Store>& other) {
  constexpr const char* kRemoved = "victim/removed";
  constexpr const char* kSharing = "victim/sharing";
  ARROW_RETURN_NOT_OK(other->Put(kRemoved, *SeededTable(10, 200)).status());
  ARROW_ASSIGN_OR_RAISE(const auto held, store->Get(kRemoved));
  ARROW_RETURN_NOT_OK(other->Remove(kRemoved));
  ARROW_ASSIGN_OR_RAISE(const PutReceipt receipt, store->Put(kSharing, *held));
  if (receipt.bytes_copied != 0) return arrow::Status::Invalid("bytes were copied");
  return store->Remove(kSharing);
}

/// \brief A table of parts of both homes, which grows at each; parts that nobody
/// completes; a barrier at which nobody else arrives; bytes of what is removed. Invalid
/// if anything is not as it should be.
inline arrow::Status PutVictimParts(const std::shared_ptr<Store>& store,
                                    const std::shared_ptr<Store>& other) {
  constexpr const char* kParted = "victim/parted";
  constexpr const char* kStaged = "victim/staged";
  const auto part = SeededTable(9, 200);
  ARROW_RETURN_NOT_OK(PutPart(store, kParted, *part, 0, 2).status());
  ARROW_RETURN_NOT_OK(PutPart(other, kParted, *part, 1, 2).status());
  ARROW_RETURN_NOT_OK(AppendPart(store, kParted, *part).status());
  ARROW_RETURN_NOT_OK(AppendPart(other, kParted, *part).status());
  ARROW_ASSIGN_OR_RAISE(const auto whole, store->Get(kParted));
  if (whole->num_rows() != 4 * part->num_rows()) {
    return arrow::Status::Invalid("parts got lost");
  }
  ARROW_RETURN_NOT_OK(PutPart(store, kStaged, *part, 0, 2).status());
  ARROW_RETURN_NOT_OK(AbortParts(other, kStaged));
  ARROW_RETURN_NOT_OK(PutPart(other, kStaged, *part, 1, 2).status());
  const arrow::Status alone = Barrier(store, kVictimBarrier, 2, {});
  if (!IsTimeout(alone)) return arrow::Status::Invalid("alone: ", alone.ToString());
  ARROW_RETURN_NOT_OK(store->Remove(kParted));
  return ShareRemoved(store, other);
}

}  // namespace sheaf::testing
