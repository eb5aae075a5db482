#include "sheaf/handle.h"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "testing/arrow_test.h"

namespace sheaf {
namespace {

Handle MakeHandle() {
  return {.cluster_id = 0x0123456789ABCDEF,
          .object = {{3}, 77, (uint64_t{5} << 32) + 9},
          .row_offset = 10,
          .num_rows = 100};
}

TEST(Handle, BytesRoundTrip) {
  const Handle whole = MakeHandle();
  ASSERT_OK_AND_ASSIGN(const Handle some, whole.Select({2, 0, 2}));
  ASSERT_OK_AND_ASSIGN(const Handle none, whole.Select({}));
  for (const Handle& handle : {whole, some, none, Handle{}}) {
    ASSERT_OK_AND_ASSIGN(const Handle back, Handle::Deserialize(handle.Serialize()));
    EXPECT_EQ(back, handle);
  }
}

TEST(Handle, HasTheSizeThatIsPromised) {
  EXPECT_EQ(MakeHandle().Serialize().size(), 56U);
  ASSERT_OK_AND_ASSIGN(const Handle some, MakeHandle().Select({1, 2, 3}));
  EXPECT_EQ(some.Serialize().size(), 56U + 3 * 4);
}

TEST(Handle, EveryFlippedBitIsRefused) {
  ASSERT_OK_AND_ASSIGN(const Handle handle, MakeHandle().Select({1, 2}));
  const std::string bytes = handle.Serialize();
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::string flipped = bytes;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_RAISES(Invalid, Handle::Deserialize(flipped)) << "bit " << bit;
  }
}

TEST(Handle, EveryTruncationAndExtensionIsRefused) {
  const std::string bytes = MakeHandle().Serialize();
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_RAISES(Invalid, Handle::Deserialize(bytes.substr(0, size))) << size;
  }
  EXPECT_RAISES(Invalid, Handle::Deserialize(bytes + '\0'));
}

TEST(Handle, SliceOfASliceCountsFromTheFirst) {
  const Handle slice = MakeHandle().Slice(5, 50).Slice(2, 48);
  EXPECT_EQ(slice.row_offset, 17);
  EXPECT_EQ(slice.num_rows, 48);
}

TEST(Handle, ASliceToTheEndEndsWhereItsParentDoes) {
  const Handle bounded = MakeHandle().Slice(0, 10).Slice(2);
  EXPECT_EQ(bounded.row_offset, 12);
  EXPECT_EQ(bounded.num_rows, 8);
  EXPECT_EQ(MakeHandle().Slice(100).num_rows, 0);
  const Handle whole{};
  EXPECT_EQ(whole.Slice(7).row_offset, 7);
  EXPECT_EQ(whole.Slice(7).num_rows, -1);
  EXPECT_EQ(whole.Slice(7, 3).num_rows, 3);
}

TEST(Handle, ASliceOutsideOfItsParentStaysOutside) {
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  const Handle parent = MakeHandle();  // rows 10 to 109
  for (const Handle& slice :
       {parent.Slice(101), parent.Slice(101, 0), parent.Slice(0, 101),
        parent.Slice(100, 1), parent.Slice(-1, 1), parent.Slice(1, -2),
        parent.Slice(kMax, kMax), parent.Slice(0, 10).Slice(5, 6), Handle{}.Slice(-1, 1),
        Handle{}.Slice(5).Slice(kMax, 1)}) {
    EXPECT_LT(slice.row_offset, 0);
    EXPECT_LT(slice.Slice(0).row_offset, 0);
    EXPECT_LT(slice.Slice(1, 1).row_offset, 0);
  }
}

// Such a handle comes from another process: #4.
TEST(Handle, ASliceOfMoreRowsThanCanBeCountedDoesNotOverflow) {
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  Handle handle = MakeHandle();
  handle.row_offset = kMax - 5;
  handle.num_rows = kMax;
  EXPECT_LT(handle.Slice(6).row_offset, 0);
  EXPECT_LT(handle.Slice(0, 6).row_offset, 0);
  EXPECT_EQ(handle.Slice(2).row_offset, kMax - 3);
  EXPECT_EQ(handle.Slice(2).num_rows, 3);
}

TEST(Handle, NegativeCountsAreRefused) {
  Handle handle = MakeHandle();
  handle.num_rows = -2;
  EXPECT_RAISES(Invalid, Handle::Deserialize(handle.Serialize()));
  handle = MakeHandle();
  handle.row_offset = -2;
  EXPECT_RAISES(Invalid, Handle::Deserialize(handle.Serialize()));
  // What a slice outside of its parent has: Open refuses it, and says so.
  const Handle outside = MakeHandle().Slice(101);
  ASSERT_OK_AND_ASSIGN(const Handle back, Handle::Deserialize(outside.Serialize()));
  EXPECT_EQ(back, outside);
}

TEST(Handle, SelectOfASelectionIsByPosition) {
  ASSERT_OK_AND_ASSIGN(const Handle first, MakeHandle().Select({4, 5, 6}));
  ASSERT_OK_AND_ASSIGN(const Handle second, first.Select({2, 0}));
  EXPECT_EQ(second.columns, (std::vector<uint32_t>{6, 4}));
  EXPECT_RAISES(Invalid, first.Select({3}));
}

}  // namespace
}  // namespace sheaf
