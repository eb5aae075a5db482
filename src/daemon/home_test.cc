#include "daemon/home.h"

#include <chrono>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include <arrow/buffer.h>
#include <arrow/result.h>
#include <arrow/status.h>

#include "daemon/foreign_leases.h"
#include "daemon/membership.h"
#include "daemon/node_lines.h"
#include "daemon/space.h"
#include "daemon/test_node.h"
#include "directory/directory.h"
#include "format/layout.h"
#include "lease/lease.h"
#include "platform/cache.h"
#include "region/admit_line.h"
#include "region/cluster_config.h"
#include "region/control_line.h"
#include "region/region.h"
#include "sheaf/status.h"
#include "sheaf/types.h"
#include "testing/arrow_test.h"

namespace sheaf::daemon {
namespace {

using format::LineState;

constexpr uint64_t kMiB = uint64_t{1} << 20;

class HomeTest : public ::testing::Test {
 protected:
  void SetUp() override { Start(memory_.Config()); }

  void Start(const region::ClusterConfig& config) {
    nodes_ = MakeNodes(config, &clock_);
    for (TestNode& node : nodes_) {
      sessions_.push_back(node->OpenSession().ValueOrDie().id);
      free_at_start_.push_back(node->space().ranges().free_bytes());
    }
  }

  Granted Grant(uint32_t node, uint64_t size_bytes) {
    return nodes_[node]->Grant(sessions_[node], size_bytes).ValueOrDie();
  }

  GlobalRange In(uint32_t node, const Granted& grant, uint64_t offset,
                 uint64_t size_bytes) {
    return {{{node}, grant.extent.offset + offset}, size_bytes};
  }

  SealInput InputOver(const std::vector<GlobalRange>& ranges,
                      std::vector<ObjectId> parents = {}) {
    SealInput input;
    input.descriptor = DescribeRanges(*nodes_[0].region, ranges);
    input.parents = std::move(parents);
    return input;
  }

  arrow::Result<ObjectId> Seal(uint32_t node, const std::vector<GlobalRange>& ranges,
                               std::vector<ObjectId> parents = {}) {
    return nodes_[node]->Seal(sessions_[node], InputOver(ranges, std::move(parents)));
  }

  void ExpectStale(const arrow::Status& status) {
    EXPECT_TRUE(IsStaleGeneration(status)) << status.ToString();
  }

  uint64_t FreeBytes(uint32_t node) {
    return nodes_[node]->space().ranges().free_bytes();
  }

  region::TestMemory memory_;
  FakeScheduler clock_;
  std::vector<TestNode> nodes_;
  std::vector<uint64_t> sessions_;
  std::vector<uint64_t> free_at_start_;
};

TEST_F(HomeTest, GrantIsWholeExtentAndRecordedAsOwned) {
  const Granted grant = Grant(0, 100);
  EXPECT_GE(grant.extent.size_bytes, format::kSmallExtentBytes);
  const region::Segment& segment = *nodes_[1].region->segment({0});
  const auto line =
      region::ReadControlLine<format::Grant>(segment, segment.GrantLine(grant.id.grant));
  ASSERT_TRUE(line.has_value());
  EXPECT_EQ(line->state, static_cast<uint8_t>(LineState::kOwned));
  EXPECT_EQ(line->generation, grant.id.generation);
  EXPECT_EQ(line->owner_session, sessions_[0]);
  EXPECT_EQ(line->owner_incarnation, nodes_[0]->incarnation());
  EXPECT_EQ(line->extent_offset, grant.extent.offset);
  EXPECT_EQ(line->extent_size_bytes, grant.extent.size_bytes);
}

TEST_F(HomeTest, ReturnedGrantIsFreeWithItsGenerationAndTheNextIsHigher) {
  const Granted first = Grant(0, kMiB);
  ASSERT_OK(nodes_[0]->Return(sessions_[0], first.id));
  const region::Segment& segment = nodes_[0].region->own_segment();
  const auto line =
      region::ReadControlLine<format::Grant>(segment, segment.GrantLine(first.id.grant));
  ASSERT_TRUE(line.has_value());
  EXPECT_EQ(line->state, static_cast<uint8_t>(LineState::kFree));
  EXPECT_EQ(line->generation, first.id.generation);
  const Granted second = Grant(0, kMiB);
  EXPECT_EQ(second.id.grant, first.id.grant);
  EXPECT_GT(second.id.generation, first.id.generation);
  ExpectStale(nodes_[0]->Return(sessions_[0], first.id));
}

TEST_F(HomeTest, GrantThatDoesNotFitChangesNothing) {
  const arrow::Status status = nodes_[0]->Grant(sessions_[0], 64 * kMiB).status();
  ASSERT_RAISES(OutOfMemory, status);
  EXPECT_EQ(FreeBytes(0), free_at_start_[0]);
  EXPECT_EQ(nodes_[0]->space().num_grants(), 0);
  ASSERT_RAISES(Invalid, nodes_[0]->Grant(sessions_[0], 0));
  ASSERT_RAISES(Invalid, nodes_[0]->Grant(sessions_[0] + 100, kMiB));
}

TEST_F(HomeTest, AnotherSessionCannotReturnAGrant) {
  const Granted grant = Grant(0, kMiB);
  const uint64_t other = nodes_[0]->OpenSession().ValueOrDie().id;
  ASSERT_RAISES(Invalid, nodes_[0]->Return(other, grant.id));
  EXPECT_TRUE(nodes_[0]->space().Holds(sessions_[0], grant.id.grant));
}

TEST_F(HomeTest, SealedObjectIsReadableOnTheOtherNode) {
  const Granted grant = Grant(0, kMiB);
  SealInput input = InputOver({In(0, grant, 0, 4096), In(0, grant, 8192, 800)});
  input.now_unix_ns = 17;
  ASSERT_OK_AND_ASSIGN(const ObjectId object, nodes_[0]->Seal(sessions_[0], input));
  const region::Segment& segment = *nodes_[1].region->segment({0});
  ASSERT_OK_AND_ASSIGN(const format::Slot slot,
                       directory::ReadSlot(segment, object.slot));
  EXPECT_EQ(slot.generation, object.generation);
  EXPECT_TRUE(directory::IsReadable(slot));
  ASSERT_OK_AND_ASSIGN(const directory::Record record,
                       directory::ReadRecord(segment, slot));
  EXPECT_EQ(record.num_rows, 4096 / 8 + 100);
  EXPECT_EQ(record.creator_session, sessions_[0]);
  EXPECT_EQ(record.created_unix_ns, 17);
  EXPECT_EQ(record.own_ranges,
            (std::vector<GlobalRange>{In(0, grant, 0, 4096), In(0, grant, 8192, 1024)}));
  EXPECT_TRUE(record.references.empty());
}

TEST_F(HomeTest, SealRefusesBytesThatAreFree) {
  ExpectStale(Seal(0, {{{{0}, 0}, 4096}}).status());
  EXPECT_EQ(FreeBytes(0), free_at_start_[0]);
  EXPECT_EQ(nodes_[0]->directory().num_objects(), 0);
}

TEST_F(HomeTest, SealRefusesAnotherSessionsGrant) {
  const Granted grant = Grant(0, kMiB);
  const uint64_t other = nodes_[0]->OpenSession().ValueOrDie().id;
  ExpectStale(nodes_[0]->Seal(other, InputOver({In(0, grant, 0, 4096)})).status());
  ASSERT_RAISES(Invalid,
                nodes_[0]->Seal(other + 100, InputOver({In(0, grant, 0, 4096)})));
  EXPECT_OK(Seal(0, {In(0, grant, 0, 4096)}));
}

TEST_F(HomeTest, SealRefusesAReturnedGrantAlsoWhenAnotherHoldsItNow) {
  const Granted grant = Grant(0, kMiB);
  ASSERT_OK(nodes_[0]->Return(sessions_[0], grant.id));
  ExpectStale(Seal(0, {In(0, grant, 0, 4096)}).status());
  const uint64_t other = nodes_[0]->OpenSession().ValueOrDie().id;
  ASSERT_OK_AND_ASSIGN(const Granted again, nodes_[0]->Grant(other, kMiB));
  ASSERT_EQ(again.extent, grant.extent);
  ExpectStale(Seal(0, {In(0, grant, 0, 4096)}).status());
}

TEST_F(HomeTest, SealRefusesARangeThatLeavesTheGrant) {
  const Granted grant = Grant(0, kMiB);
  ExpectStale(Seal(0, {In(0, grant, grant.extent.size_bytes - 256, 512)}).status());
  EXPECT_EQ(nodes_[0]->directory().num_objects(), 0);
}

TEST_F(HomeTest, SealRefusesDamagedDescriptorsAndChangesNothing) {
  const Granted grant = Grant(0, kMiB);
  const SealInput good = InputOver({In(0, grant, 0, 4096)});
  const uint64_t free_bytes = FreeBytes(0);
  for (int64_t i = 0; i < good.descriptor->size(); ++i) {
    std::shared_ptr<arrow::Buffer> bytes =
        good.descriptor->CopySlice(0, good.descriptor->size()).ValueOrDie();
    bytes->mutable_data()[i] ^= 0x81;
    SealInput damaged;
    damaged.descriptor = bytes;
    // Flips in names or metadata may go unseen here; none may seal what is not granted.
    const auto object = nodes_[0]->Seal(sessions_[0], damaged);
    if (!object.ok()) continue;
    ASSERT_OK(nodes_[0]->Retire(*object, ""));
    ASSERT_OK(nodes_[0]->Reclaim());
  }
  EXPECT_EQ(FreeBytes(0), free_bytes);
  EXPECT_EQ(nodes_[0]->directory().num_objects(), 0);
  SealInput truncated;
  truncated.descriptor = arrow::SliceBuffer(good.descriptor, 0, 20);
  ASSERT_RAISES(Invalid, nodes_[0]->Seal(sessions_[0], truncated));
}

TEST_F(HomeTest, SealRefusesBadNames) {
  const Granted grant = Grant(0, kMiB);
  SealInput input = InputOver({In(0, grant, 0, 4096)});
  for (const std::string& name : {std::string(256, 'x'), std::string("a\nb"),
                                  std::string("\xC3\x28"), std::string("a\0b", 3)}) {
    input.name = name;
    ASSERT_RAISES(Invalid, nodes_[0]->Seal(sessions_[0], input));
  }
  EXPECT_EQ(nodes_[0]->directory().num_objects(), 0);
}

TEST_F(HomeTest, ASliceSharesWhatTheSameSessionSealed) {
  const Granted grant = Grant(0, kMiB);
  ASSERT_OK(Seal(0, {In(0, grant, 0, 8192)}));
  ASSERT_OK(Seal(0, {In(0, grant, 4096, 8192)}));  // half sealed, half open
  const auto runs = nodes_[0]->space().ranges().Runs({grant.extent.offset, 12288});
  ASSERT_OK(runs);
  ASSERT_EQ(runs->size(), 3);
  EXPECT_EQ((*runs)[1].references, 2);
}

TEST_F(HomeTest, AnotherSessionSharesOnlyThroughANamedParent) {
  const Granted grant = Grant(0, kMiB);
  ASSERT_OK_AND_ASSIGN(const ObjectId parent, Seal(0, {In(0, grant, 0, 8192)}));
  const uint64_t other = nodes_[0]->OpenSession().ValueOrDie().id;
  const std::vector<GlobalRange> slice = {In(0, grant, 4096, 4096)};
  ExpectStale(nodes_[0]->Seal(other, InputOver(slice)).status());
  ASSERT_OK_AND_ASSIGN(const ObjectId child,
                       nodes_[0]->Seal(other, InputOver(slice, {parent})));
  // One byte past the parent is nobody's.
  ExpectStale(
      nodes_[0]->Seal(other, InputOver({In(0, grant, 4096, 4104)}, {parent})).status());

  // The slice keeps its bytes when the parent and the grant are gone.
  ASSERT_OK(nodes_[0]->Retire(parent, ""));
  ASSERT_OK(nodes_[0]->Return(sessions_[0], grant.id));
  ASSERT_OK_AND_ASSIGN(const size_t freed, nodes_[0]->Reclaim());
  EXPECT_EQ(freed, 1);
  EXPECT_EQ(FreeBytes(0), free_at_start_[0] - 4096);
  ASSERT_OK(nodes_[0]->Retire(child, ""));
  ASSERT_OK(nodes_[0]->Reclaim());
  EXPECT_EQ(FreeBytes(0), free_at_start_[0]);
}

TEST_F(HomeTest, ARetiredParentIsSharedStillAndAFreedOneIsStale) {
  const Granted grant = Grant(0, kMiB);
  ASSERT_OK_AND_ASSIGN(const ObjectId parent, Seal(0, {In(0, grant, 0, 8192)}));
  const uint64_t other = nodes_[0]->OpenSession().ValueOrDie().id;
  const SealInput input = InputOver({In(0, grant, 0, 4096)}, {parent});
  ObjectId older = parent;
  --older.generation;
  ExpectStale(
      nodes_[0]->Seal(other, InputOver({In(0, grant, 0, 4096)}, {older})).status());
  ASSERT_OK(nodes_[0]->Retire(parent, ""));
  ASSERT_OK(nodes_[0]->Seal(other, input));
  ASSERT_OK(nodes_[0]->Reclaim());
  ExpectStale(nodes_[0]->Seal(other, input).status());
}

TEST_F(HomeTest, AFullDirectoryUndoesTheSeal) {
  const Granted grant = Grant(0, kMiB);
  const auto seal = [&](uint64_t i) { return Seal(0, {In(0, grant, 256 * i, 256)}); };
  uint64_t sealed = 0;
  while (seal(sealed).ok()) ++sealed;
  const auto before = nodes_[0]->space().ranges().Runs(grant.extent).ValueOrDie();
  const uint32_t objects = nodes_[0]->directory().num_objects();
  ASSERT_RAISES(CapacityError, seal(sealed));
  EXPECT_EQ(nodes_[0]->space().ranges().Runs(grant.extent).ValueOrDie(), before);
  EXPECT_EQ(nodes_[0]->directory().num_objects(), objects);
}

TEST_F(HomeTest, RetireWantsTheRightNameAndHappensOnce) {
  const Granted grant = Grant(0, kMiB);
  SealInput input = InputOver({In(0, grant, 0, 4096)});
  input.name = "taxi";
  ASSERT_OK_AND_ASSIGN(const ObjectId object, nodes_[0]->Seal(sessions_[0], input));
  ASSERT_RAISES(Invalid, nodes_[0]->Retire(object, ""));
  ASSERT_RAISES(Invalid, nodes_[0]->Retire(object, "bus"));
  ASSERT_RAISES(Invalid, nodes_[0]->SetKept(object, true));
  ASSERT_OK(nodes_[0]->Retire(object, "taxi"));
  ExpectStale(nodes_[0]->Retire(object, "taxi"));
  ASSERT_OK(nodes_[0]->Reclaim());
  ExpectStale(nodes_[0]->Retire(object, "taxi"));
}

TEST_F(HomeTest, ALeasedObjectIsNotReclaimedUntilItsCellIsClear) {
  const Granted grant = Grant(0, kMiB);
  ASSERT_OK_AND_ASSIGN(const ObjectId object, Seal(0, {In(0, grant, 0, 4096)}));
  lease::CellTable cells(&nodes_[1].region->own_segment(), {},
                         [&] { return nodes_[1]->AddLeasePage(sessions_[1]); });
  ASSERT_OK_AND_ASSIGN(const lease::Cell cell, cells.Write(object));
  ASSERT_OK(nodes_[0]->Retire(object, ""));
  ASSERT_OK_AND_ASSIGN(size_t freed, nodes_[0]->Reclaim());
  EXPECT_EQ(freed, 0);
  EXPECT_EQ(nodes_[0]->num_retired(), 1);
  cells.Clear(cell);
  ASSERT_OK_AND_ASSIGN(freed, nodes_[0]->Reclaim());
  EXPECT_EQ(freed, 1);
  EXPECT_EQ(nodes_[0]->num_retired(), 0);
}

TEST_F(HomeTest, TheEndOfASessionGivesBackAllButWhatIsKept) {
  const Granted grant = Grant(0, kMiB);
  EXPECT_NE(Grant(0, kMiB).id.grant, grant.id.grant);
  ASSERT_OK(Seal(0, {In(0, grant, 0, 4096)}));
  SealInput kept = InputOver({In(0, grant, 8192, 4096)});
  kept.keep = true;
  ASSERT_OK(nodes_[0]->Seal(sessions_[0], kept));
  ASSERT_OK_AND_ASSIGN(const ObjectId later, Seal(0, {In(0, grant, 65536, 4096)}));
  ASSERT_OK(nodes_[0]->SetKept(later, true));
  ASSERT_OK(nodes_[0]->EndSession(sessions_[0]));
  EXPECT_EQ(nodes_[0]->num_retired(), 1);
  ASSERT_OK(nodes_[0]->Reclaim());
  EXPECT_EQ(FreeBytes(0), free_at_start_[0] - 8192);
  EXPECT_EQ(nodes_[0]->space().num_grants(), 0);
  ASSERT_RAISES(Invalid, nodes_[0]->EndSession(sessions_[0]));
}

TEST_F(HomeTest, SessionsThatComeAndGoUseNothingUp) {
  for (int i = 0; i < 500; ++i) {
    ASSERT_OK_AND_ASSIGN(const Home::NewSession session, nodes_[0]->OpenSession());
    ASSERT_OK(nodes_[0]->Grant(session.id, kMiB));
    ASSERT_OK(nodes_[0]->EndSession(session.id));
  }
  EXPECT_EQ(FreeBytes(0), free_at_start_[0]);
}

TEST_F(HomeTest, ASliceOfAnotherHomesTableKeepsThatTablesBytes) {
  const Granted far = Grant(1, kMiB);
  ASSERT_OK_AND_ASSIGN(const ObjectId parent, Seal(1, {In(1, far, 0, 8192)}));
  const Granted near = Grant(0, kMiB);
  const std::vector<GlobalRange> ranges = {In(0, near, 0, 4096), In(1, far, 4096, 4096)};
  ExpectStale(Seal(0, ranges).status());  // No parent is named.
  EXPECT_EQ(nodes_[0]->num_foreign_leases(), 0);
  ASSERT_OK_AND_ASSIGN(const ObjectId child, Seal(0, ranges, {parent}));
  EXPECT_EQ(nodes_[0]->num_foreign_leases(), 1);
  EXPECT_EQ(nodes_[0]->directory().GetRecord(child).ValueOrDie()->references,
            std::vector<ObjectId>{parent});

  ASSERT_OK(nodes_[1]->Retire(parent, ""));
  ASSERT_OK(nodes_[1]->Return(sessions_[1], far.id));
  EXPECT_EQ(nodes_[1]->Reclaim().ValueOrDie(), 0);  // Held by the lease of home 0.
  ASSERT_OK(nodes_[0]->Retire(child, ""));
  EXPECT_EQ(nodes_[0]->Reclaim().ValueOrDie(), 1);
  EXPECT_EQ(nodes_[0]->num_foreign_leases(), 0);
  EXPECT_EQ(nodes_[1]->Reclaim().ValueOrDie(), 1);
  EXPECT_EQ(FreeBytes(1), free_at_start_[1]);
}

TEST_F(HomeTest, ReferencesAreFlattened) {
  const Granted far = Grant(1, kMiB);
  ASSERT_OK_AND_ASSIGN(const ObjectId first, Seal(1, {In(1, far, 0, 8192)}));
  ASSERT_OK_AND_ASSIGN(const ObjectId second, Seal(0, {In(1, far, 0, 8192)}, {first}));
  // Only the second is named; what its bytes lie in is the first.
  ASSERT_OK_AND_ASSIGN(const ObjectId third, Seal(0, {In(1, far, 256, 512)}, {second}));
  EXPECT_EQ(nodes_[0]->directory().GetRecord(third).ValueOrDie()->references,
            std::vector<ObjectId>{first});
  // And back home: node 1 names an object of node 0 that refers to bytes of node 1.
  const uint64_t other = nodes_[1]->OpenSession().ValueOrDie().id;
  SealInput input = InputOver({In(1, far, 256, 256)}, {third});
  ASSERT_OK_AND_ASSIGN(const ObjectId fourth, nodes_[1]->Seal(other, input));
  EXPECT_TRUE(nodes_[1]->directory().GetRecord(fourth).ValueOrDie()->references.empty());
  EXPECT_EQ(nodes_[1]->num_foreign_leases(), 0);
}

TEST_F(HomeTest, AForeignParentIsStaleUnlessBoundOrLeasedHereSinceItWas) {
  const Granted far = Grant(1, kMiB);
  SealInput input = InputOver({In(1, far, 0, 4096)});
  input.name = "taxi";
  ASSERT_OK_AND_ASSIGN(const ObjectId named, nodes_[1]->Seal(sessions_[1], input));
  const std::vector<GlobalRange> ranges = {In(1, far, 0, 4096)};
  ExpectStale(Seal(0, ranges, {named}).status());  // Sealed, not yet Bound.
  ASSERT_OK(nodes_[1]->directory().SetVersion(named, 1, 1));
  ASSERT_OK(nodes_[1]->directory().Bind(named));
  ASSERT_OK_AND_ASSIGN(const ObjectId child, Seal(0, ranges, {named}));
  ASSERT_OK(nodes_[1]->Retire(named, "taxi"));
  ExpectStale(nodes_[1]->Retire(named, "taxi"));  // Told once: it was this Retire.
  EXPECT_EQ(nodes_[0]->num_foreign_leases(), 1);
  ASSERT_OK_AND_ASSIGN(const ObjectId second, Seal(0, ranges, {named}));
  ASSERT_OK(nodes_[0]->Retire(second, ""));
  EXPECT_EQ(nodes_[1]->Reclaim().ValueOrDie(), 0);
  ASSERT_OK(nodes_[0]->Retire(child, ""));
  ASSERT_OK(nodes_[0]->Reclaim());
  // Retired, not yet freed, and no cell of this home is left: a new one may be too late.
  ExpectStale(Seal(0, ranges, {named}).status());
  // It waits for an answer of that home, until it is abandoned.
  ForeignLeases& leases = nodes_[0]->foreign_leases();
  const auto doubtful = leases.TakeHeld();
  ASSERT_EQ(doubtful.size(), 1U);
  leases.Trust({named, doubtful[0].number + 1});  // of another cell
  ExpectStale(Seal(0, ranges, {named}).status());
  leases.Abandon(doubtful[0]);
  EXPECT_TRUE(leases.TakeHeld().empty());
  EXPECT_EQ(nodes_[0]->num_foreign_leases(), 0);
  EXPECT_EQ(nodes_[1]->Reclaim().ValueOrDie(), 1);
  ExpectStale(Seal(0, ranges, {named}).status());
  ExpectStale(Seal(0, ranges, {{{1}, 1u << 21, 7}}).status());
  ExpectStale(Seal(0, ranges, {{{9}, 0, 7}}).status());
  ExpectStale(Seal(0, ranges, {{{1}, 0, 0}}).status());
  ExpectStale(Seal(0, ranges, {{{1}, 0, uint64_t{5} << 32}}).status());
  ExpectStale(Seal(0, ranges, {{{0}, 0, 0}}).status());
}

TEST_F(HomeTest, StatisticsCountWhatIsThere) {
  const Granted grant = Grant(0, kMiB);
  ASSERT_OK(Seal(0, {In(0, grant, 0, 4096)}));
  const Statistics statistics = nodes_[0]->statistics();
  EXPECT_EQ(statistics.used_bytes, grant.extent.size_bytes);
  EXPECT_EQ(statistics.used_bytes + statistics.free_bytes, free_at_start_[0]);
  EXPECT_EQ(statistics.sessions, 1);
  EXPECT_EQ(statistics.objects, 1);
}

class PostedHomeTest : public HomeTest {
 protected:
  void SetUp() override {
    region::ClusterConfig config = memory_.Config();
    config.coherence = region::Coherence::kSoftware;
    config.settle_class = platform::SettleClass::kPosted;
    config.posted_delay_us = 100;
    Start(config);
  }
};

TEST_F(PostedHomeTest, NothingIsScannedBeforeTheGraceIsOver) {
  const Granted grant = Grant(0, kMiB);
  ASSERT_OK_AND_ASSIGN(const ObjectId object, Seal(0, {In(0, grant, 0, 4096)}));
  ASSERT_OK(nodes_[0]->Retire(object, ""));
  EXPECT_EQ(nodes_[0]->grace_end() - clock_.Now(), std::chrono::microseconds(200));
  clock_.Advance(std::chrono::microseconds(199));
  EXPECT_EQ(nodes_[0]->Reclaim().ValueOrDie(), 0);
  clock_.Advance(std::chrono::microseconds(1));
  EXPECT_EQ(nodes_[0]->Reclaim().ValueOrDie(), 1);
}

/// #5, F8: it was admitted once, and something else is where its memory was.
TEST(ANodeThatIsOff, BlocksNobodyThoughItsMemoryCannotBeRead) {
  const region::TestMemory memory;
  const region::ClusterConfig config = memory.Config();
  FakeScheduler clock;
  ASSERT_OK(region::PrepareMemoryFolder(config));
  ASSERT_OK(region::FormatSegment(config, {0}));
  TestNode node;
  ASSERT_OK_AND_ASSIGN(
      node.region, region::Region::Attach(config, {{0}, region::Role::kDaemon, true}));
  node.Begin(&clock);
  constexpr uint64_t kSeen = (uint64_t{5} << 32) + 3;
  region::Segment& own = node.region->own_segment();
  region::StoreAdmitted(&own, {1}, kSeen);
  region::ClusterConfig other = config;
  other.cluster_id = 7;
  ASSERT_OK(region::FormatSegment(other, {1}));

  // A seal needs the memory that it refers to, and no other.
  ASSERT_OK_AND_ASSIGN(const auto session, node->OpenSession());
  ASSERT_OK_AND_ASSIGN(const Granted grant, node->Grant(session.id, kMiB));
  SealInput input;
  input.descriptor = DescribeRanges(*node.region, {{{{0}, grant.extent.offset}, 4096}});
  ASSERT_OK_AND_ASSIGN(const ObjectId object, node->Seal(session.id, input));
  ASSERT_OK(node->Retire(object, ""));
  EXPECT_RAISES(Invalid, node->Reclaim());  // It may hold leases.
  Membership membership(node.region.get(), &clock, node->incarnation(),
                        [](uint64_t) { return uint64_t{0}; });
  arrow::Status forgotten = arrow::Status::UnknownError("no answer");
  for (int again = 0; again < 2; ++again) {
    membership.Forget({1}, [&](const arrow::Status& status) { forgotten = status; });
    clock.Advance(std::chrono::seconds(1));
    ASSERT_OK(forgotten);
  }
  ASSERT_OK_AND_ASSIGN(const size_t freed, node->Reclaim());
  EXPECT_EQ(freed, 1);
  // Whatever it became since this home saw it last, it is off when it is back.
  EXPECT_TRUE(region::LoadAdmitLine(own, {1}).is_off());
  EXPECT_GT(region::LoadAdmitLine(own, {1}).off, kSeen + 1000);
  EXPECT_EQ(region::LoadAdmitLine(own, {1}).off >> 32, 5);
}

}  // namespace
}  // namespace sheaf::daemon
