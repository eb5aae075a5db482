#include "daemon/space.h"

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include <arrow/status.h>

#include "alloc/range.h"
#include "daemon/grant_table.h"
#include "daemon/warm_memory.h"
#include "format/layout.h"
#include "platform/cache.h"
#include "sheaf/types.h"
#include "testing/arrow_test.h"
#include "testing/fake_part.h"
#include "testing/fake_segments.h"

namespace sheaf::daemon {
namespace {

using testing::FakePart;

constexpr uint64_t kDataBytes = uint64_t{8} << 20;

// Remembers what was asked for.
class CountingPart : public FakePart {
 public:
  using FakePart::FakePart;
  arrow::Status Allocate(uint64_t offset, uint64_t size_bytes) override {
    ARROW_RETURN_NOT_OK(FakePart::Allocate(offset, size_bytes));
    asked.push_back({offset, size_bytes});
    return arrow::Status::OK();
  }
  std::vector<alloc::Range> asked;
};

class SpaceTest : public ::testing::Test {
 protected:
  SpaceTest() : fakes_(testing::FakeOptions{.data_size_bytes = kDataBytes}) {
    auto control =
        std::make_unique<FakePart>(fakes_[0]->control().size_bytes(), cache_.get());
    auto data = std::make_unique<CountingPart>(kDataBytes, cache_.get());
    data_ = data.get();
    control_ = control.get();
    segment_ = std::make_unique<region::Segment>(
        SegmentId{0}, fakes_[0]->header(), std::move(control),
        std::make_unique<FakePart>(4096, cache_.get()), std::move(data));
    space_ = std::make_unique<Space>(segment_.get(), GrantOwner{{0}, 1, 0});
  }

  testing::FakeSegments fakes_;
  std::unique_ptr<platform::CacheControl> cache_ = platform::MakeCoherentCacheControl();
  CountingPart* data_ = nullptr;
  FakePart* control_ = nullptr;
  std::unique_ptr<region::Segment> segment_;
  std::unique_ptr<Space> space_;
};

TEST_F(SpaceTest, MemoryIsAllocatedOnceAndStaysWarm) {
  for (int i = 0; i < 3; ++i) {
    ASSERT_OK_AND_ASSIGN(const Granted grant, space_->Grant(7, kDataBytes));
    ASSERT_OK(space_->Return(7, grant.id));
  }
  EXPECT_EQ(data_->asked, (std::vector<alloc::Range>{{0, kDataBytes}}));
  EXPECT_EQ(space_->warm().warm_bytes(), kDataBytes);
}

TEST_F(SpaceTest, NoMemoryMeansNoGrantAndNothingChanged) {
  data_->is_full = true;
  ASSERT_RAISES(OutOfMemory, space_->Grant(7, 4096));
  EXPECT_EQ(space_->ranges().free_bytes(), kDataBytes);
  EXPECT_EQ(space_->num_grants(), 0);
  data_->is_full = false;
  ASSERT_OK(space_->Grant(7, 4096));
}

TEST_F(SpaceTest, GrantLinesAreLimited) {
  arrow::Status status;
  uint32_t granted = 0;
  for (; status.ok(); ++granted) status = space_->Grant(7, 4096).status();
  EXPECT_TRUE(status.IsCapacityError() || status.IsOutOfMemory()) << status.ToString();
  EXPECT_LE(granted - 1, segment_->header().grants_max);
  for (const GrantId& id : space_->GrantsOf(7)) ASSERT_OK(space_->ReturnOfDead(7, id));
  EXPECT_EQ(space_->ranges().free_bytes(), kDataBytes);
}

TEST(WarmMemory, AllocatesOnlyGaps) {
  const auto cache = platform::MakeCoherentCacheControl();
  CountingPart part(1 << 20, cache.get());
  WarmMemory warm(&part);
  ASSERT_OK(warm.Warm({4096, 4096}));
  ASSERT_OK(warm.Warm({16384, 4096}));
  ASSERT_OK(warm.Warm({0, 32768}));
  ASSERT_OK(warm.Warm({0, 32768}));
  ASSERT_OK(warm.Warm({28672, 8192}));
  EXPECT_EQ(part.asked, (std::vector<alloc::Range>{{4096, 4096},
                                                   {16384, 4096},
                                                   {0, 4096},
                                                   {8192, 8192},
                                                   {20480, 12288},
                                                   {32768, 4096}}));
  EXPECT_EQ(warm.warm_bytes(), 36864);
}

}  // namespace
}  // namespace sheaf::daemon
