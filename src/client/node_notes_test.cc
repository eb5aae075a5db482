#include "client/node_notes.h"

#include <cstdint>

#include <gtest/gtest.h>

#include "platform/test_folder.h"
#include "sheaf/types.h"
#include "testing/arrow_test.h"

namespace sheaf::client {
namespace {

TEST(NodeNotes, AreSharedByTheProcessesOfANode) {
  const platform::TestFolder folder;
  ASSERT_OK_AND_ASSIGN(const auto one, NodeNotes::Open(folder.File("notes")));
  ASSERT_OK_AND_ASSIGN(const auto other, NodeNotes::Open(folder.File("notes")));
  const ObjectId object{{1}, 2, 3};
  EXPECT_FALSE(other->IsSet(object));
  one->Set(object);
  EXPECT_TRUE(other->IsSet(object));
}

/// L3, L9: after a new format the same slot is used with the same low half of the
/// generation.
TEST(NodeNotes, TellFormatEpochsApart) {
  const platform::TestFolder folder;
  ASSERT_OK_AND_ASSIGN(const auto notes, NodeNotes::Open(folder.File("notes")));
  constexpr uint64_t kEpoch = 1'700'000'000;
  notes->Set({{1}, 2, (kEpoch << 32) + 1});
  EXPECT_TRUE(notes->IsSet({{1}, 2, (kEpoch << 32) + 1}));
  for (uint64_t epoch = kEpoch + 1; epoch < kEpoch + 100; ++epoch) {
    EXPECT_FALSE(notes->IsSet({{1}, 2, (epoch << 32) + 1})) << epoch;
  }
}

}  // namespace
}  // namespace sheaf::client
