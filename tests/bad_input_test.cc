// What comes from outside and lies: handles, records that another node wrote, batches of
// a file, folders of another user. An error, and the process lives.

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <arrow/array/data.h>
#include <arrow/array/util.h>
#include <arrow/buffer.h>
#include <arrow/builder.h>
#include <arrow/chunked_array.h>
#include <arrow/compute/exec.h>
#include <arrow/datum.h>
#include <arrow/record_batch.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/daemon_channel.h"
#include "directory/directory.h"
#include "format/checksum.h"
#include "format/layout.h"
#include "format/record_generated.h"
#include "lease/lease.h"
#include "platform/unix_socket.h"
#include "region/cluster_config.h"
#include "region/control_line.h"
#include "region/region.h"
#include "sheaf/handle.h"
#include "sheaf/status.h"
#include "sheaf/store.h"
#include "sheaf/types.h"
#include "testing/arrow_test.h"
#include "testing/test_cluster.h"

namespace sheaf::testing {
namespace {

using ::testing::HasSubstr;

constexpr uint32_t kStranger = 12345;

std::shared_ptr<arrow::Table> MakeTable(int64_t rows) {
  arrow::Int64Builder builder;
  for (int64_t i = 0; i < rows; ++i) EXPECT_OK(builder.Append(i));
  return arrow::Table::Make(arrow::schema({arrow::field("x", arrow::int64())}),
                            {builder.Finish().ValueOrDie()});
}

class BadInput : public ::testing::Test {
 protected:
  void SetUp() override {
    TestClusterOptions options;
    options.config_toml = "segment_size = \"16MiB\"\nrecords_size = \"16MiB\"\n";
    options.daemon_path = SHEAFD_BINARY;
    ASSERT_OK_AND_ASSIGN(cluster_, TestCluster::Start(options));
    ASSERT_OK_AND_ASSIGN(node0_, cluster_->Connect(0));
    ASSERT_OK_AND_ASSIGN(node1_, cluster_->Connect(1));
    ASSERT_OK_AND_ASSIGN(
        config_, region::ClusterConfig::Load(region::ClusterFilePath(cluster_->name())));
  }

  std::shared_ptr<region::Region> Attach(uint32_t node, region::Role role) {
    return region::Region::Attach(config_, {{node}, role, /*relocate=*/true})
        .ValueOrDie();
  }

  Handle ShareKept(Store& store) {
    return store.Share(*MakeTable(100), {.keep = true}).ValueOrDie().handle;
  }

  directory::Record ReadRecordOf(const ObjectId& object) {
    const auto region = Attach(object.segment.value, region::Role::kClient);
    const region::Segment& home = region->own_segment();
    return directory::ReadRecord(home, *directory::ReadSlot(home, object.slot))
        .ValueOrDie();
  }

  // As the object's home could, turned hostile: its slot leads to other bytes.
  void ReplaceRecord(const ObjectId& object, const arrow::Buffer& bytes) {
    const auto region = Attach(object.segment.value, region::Role::kDaemon);
    region::Segment& home = region->own_segment();
    format::Slot slot = *directory::ReadSlot(home, object.slot);
    slot.record_offset = (uint64_t{8} << 20) + uint64_t{object.slot} * 4096;
    slot.record_size_bytes = static_cast<uint32_t>(bytes.size());
    slot.record_checksum =
        format::Checksum({bytes.data(), static_cast<size_t>(bytes.size())});
    std::memcpy(home.ControlLine(home.layout().records + slot.record_offset),
                bytes.data(), static_cast<size_t>(bytes.size()));
    region::StoreControlLine(&home, home.SlotLine(object.slot), slot, format::kBusyWord,
                             region::Arrival::kSettled);
  }

  void Refer(const ObjectId& object, const ObjectId& to) {
    directory::Record record = ReadRecordOf(object);
    record.references.push_back(to);
    ReplaceRecord(object, *directory::EncodeRecord(record).ValueOrDie());
  }

  std::unique_ptr<TestCluster> cluster_;
  std::shared_ptr<Store> node0_;
  std::shared_ptr<Store> node1_;
  region::ClusterConfig config_;
};

TEST_F(BadInput, HandlesOfImpossibleObjectsAreStale) {
  const Handle good = ShareKept(*node0_);
  for (const ObjectId& object :
       {ObjectId{{0}, 0, 0}, ObjectId{{0}, 0, uint64_t{5} << 32}, ObjectId{{0}, 3, 0},
        ObjectId{{0}, 500'000, good.object.generation},
        ObjectId{{0}, ~0U, good.object.generation}, ObjectId{{77}, 0, 1}}) {
    Handle handle = good;
    handle.object = object;
    ASSERT_OK_AND_ASSIGN(handle, Handle::Deserialize(handle.Serialize()));
    const arrow::Status status = node1_->Open(handle).status();
    EXPECT_TRUE(IsStaleGeneration(status)) << status;
  }
  EXPECT_OK(node1_->Open(good));
}

TEST_F(BadInput, HandlesOfImpossibleRowsAreRefused) {
  constexpr int64_t kMin = std::numeric_limits<int64_t>::min();
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  Handle handle = ShareKept(*node0_);
  for (const int64_t offset : {kMin, kMin + 1, int64_t{-1}, int64_t{101}, kMax}) {
    for (const int64_t rows : {int64_t{-1}, int64_t{0}, kMax}) {
      handle.row_offset = offset;
      handle.num_rows = rows;
      EXPECT_RAISES(Invalid, node1_->Open(handle));
    }
  }
}

TEST_F(BadInput, ARecordWithoutADescriptorIsRefused) {
  const Handle handle = ShareKept(*node0_);
  flatbuffers::FlatBufferBuilder builder;
  builder.FinishSizePrefixed(format::CreateStoredRecord(builder),
                             format::StoredRecordIdentifier());
  ReplaceRecord(handle.object,
                arrow::Buffer(builder.GetBufferPointer(), builder.GetSize()));
  EXPECT_RAISES(Invalid, node1_->Open(handle));
}

TEST_F(BadInput, ARecordThatRefersToItsOwnSegmentIsRefused) {
  const Handle handle = ShareKept(*node0_);
  Refer(handle.object, handle.object);
  EXPECT_RAISES(Invalid, node1_->Open(handle));
}

TEST_F(BadInput, RecordsThatReferToEachOtherKeepNoLeases) {
  const Handle one = ShareKept(*node0_);
  const Handle other = ShareKept(*node1_);
  Refer(one.object, other.object);
  Refer(other.object, one.object);
  const auto region = Attach(0, region::Role::kClient);
  const auto leases_of = [&](const Handle& handle) {
    return lease::CountLeases(*region, handle.object).ValueOrDie();
  };
  {
    ASSERT_OK_AND_ASSIGN(const auto first, node1_->Open(one));
    ASSERT_OK_AND_ASSIGN(const auto second, node1_->Open(other));
    EXPECT_GT(leases_of(one), 0U);
    EXPECT_GT(leases_of(other), 0U);
  }
  EXPECT_EQ(leases_of(one), 0U);
  EXPECT_EQ(leases_of(other), 0U);
}

TEST_F(BadInput, ClearedCellsOfAReaderEndNothing) {
  const Handle handle = ShareKept(*node0_);
  ASSERT_OK_AND_ASSIGN(auto table, node1_->Open(handle));
  // As any other process of the node can.
  const auto region = Attach(1, region::Role::kClient);
  ASSERT_OK(region->own_segment().leases().SetWritable(0, 4 * format::kLeasePageBytes,
                                                       /*writable=*/true));
  for (uint32_t page = 0; page < 4; ++page) {
    std::memset(region->own_segment().LeasePage(page) + lease::kPageHeaderWords, 0,
                format::kLeaseCellsPerPage * sizeof(uint64_t));
  }
  table.reset();
  EXPECT_OK(node1_->Open(handle));
}

TEST_F(BadInput, BatchesThatLieAreRefusedBeforeTheyAreUsed) {
  const auto bits =
      std::shared_ptr<arrow::Buffer>(arrow::AllocateBuffer(16).ValueOrDie());
  constexpr int64_t kRows = int64_t{1} << 40;
  const auto type = arrow::int64();
  const auto schema = arrow::schema({arrow::field("x", type)});
  const auto batch = arrow::RecordBatch::Make(
      schema, kRows,
      std::vector{std::make_shared<arrow::ArrayData>(type, kRows, std::vector{bits, bits},
                                                     arrow::kUnknownNullCount)});
  ASSERT_OK_AND_ASSIGN(auto reader, arrow::RecordBatchReader::Make({batch}, schema));
  const arrow::Status status = node0_->Put("t", reader.get()).status();
  ASSERT_RAISES(Invalid, status);
  EXPECT_THAT(status.message(), HasSubstr("column 0 'x'"));
  EXPECT_RAISES(KeyError, node1_->Get("t"));

  // Arrow aborts when it makes this array.
  const auto map = arrow::map(arrow::null(), arrow::null());
  const auto nulls = [](int64_t length) {
    return std::make_shared<arrow::ArrayData>(
        arrow::null(), length, std::vector<std::shared_ptr<arrow::Buffer>>{nullptr},
        length);
  };
  auto entries = std::make_shared<arrow::ArrayData>(
      map->field(0)->type(), 2, std::vector<std::shared_ptr<arrow::Buffer>>{nullptr}, 0);
  entries->child_data = {nulls(2), nulls(2)};
  auto data = std::make_shared<arrow::ArrayData>(
      map, 1, std::vector<std::shared_ptr<arrow::Buffer>>{nullptr, bits}, 0);
  data->child_data = {entries};
  const auto maps = arrow::schema({arrow::field("m", map)});
  ASSERT_OK_AND_ASSIGN(auto writer, node0_->NewWriter("m", maps));
  const auto refused =
      writer->Append(*arrow::RecordBatch::Make(maps, 1, std::vector{data}));
  ASSERT_RAISES(Invalid, refused);
  EXPECT_THAT(refused.message(), HasSubstr("keys of a map have nulls"));
}

/// As Arrow makes and accepts them; its kernels follow the null pointers.
TEST_F(BadInput, EmptyArraysWithoutBuffersArePutWhole) {
  const auto item = std::make_shared<arrow::ArrayData>(
      arrow::int64(), 0, std::vector<std::shared_ptr<arrow::Buffer>>{nullptr, nullptr},
      0);
  const auto type = arrow::list(arrow::int64());
  auto data = std::make_shared<arrow::ArrayData>(
      type, 0, std::vector<std::shared_ptr<arrow::Buffer>>{nullptr, nullptr}, 0);
  data->child_data = {item};
  const auto array = arrow::MakeArray(data);
  ASSERT_OK(
      node0_->Put("t", *arrow::Table::Make(arrow::schema({arrow::field("x", type)}),
                                           {std::make_shared<arrow::ChunkedArray>(
                                               arrow::ArrayVector{array, array})})));
  ASSERT_OK_AND_ASSIGN(const auto table, node1_->Get("t"));
  EXPECT_OK(table->ValidateFull());
  EXPECT_OK(table->CombineChunks());
  ASSERT_OK_AND_ASSIGN(const auto flat,
                       arrow::compute::CallFunction("list_flatten", {table->column(0)}));
  EXPECT_EQ(flat.length(), 0);
}

TEST_F(BadInput, TheLongestWaitIsForEver) {
  std::thread writer([&] { EXPECT_OK(node0_->Put("t", *MakeTable(1))); });
  EXPECT_OK(node1_->Wait("t", std::chrono::milliseconds::max()));
  writer.join();
  EXPECT_TRUE(IsTimeout(node1_->Wait("u", std::chrono::milliseconds::min())));
}

TEST_F(BadInput, FoldersOfAnotherUserAreRefused) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give a folder to another user";
  for (const std::string& folder : {region::RuntimeRoot(), config_.runtime_folder}) {
    ASSERT_EQ(::chown(folder.c_str(), kStranger, 0), 0);
    const arrow::Status status = cluster_->Connect(0).status();
    ASSERT_EQ(::chown(folder.c_str(), 0, 0), 0);
    ASSERT_RAISES(IOError, status);
    EXPECT_THAT(status.message(), HasSubstr("folder " + folder + " is not private"));
  }
  EXPECT_OK(cluster_->Connect(0));
}

TEST_F(BadInput, ADaemonOfAnotherUserIsRefused) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can become another user";
  const std::string folder = cluster_->folder() + "/stranger";
  ASSERT_EQ(::mkdir(folder.c_str(), 0777), 0);
  ASSERT_EQ(::chown(folder.c_str(), kStranger, 0), 0);
  ASSERT_EQ(::chmod(cluster_->folder().c_str(), 0755), 0);
  const std::string path = folder + "/socket";
  int bound[2];
  ASSERT_EQ(::pipe(bound), 0);
  const pid_t listener = ::fork();
  if (listener == 0) {
    if (::setuid(kStranger) != 0) ::_exit(1);
    const auto socket = platform::ListenUnix(path);
    const char done = socket.ok() ? 'y' : 'n';
    if (::write(bound[1], &done, 1) == 1) ::pause();
    ::_exit(1);
  }
  char done = 'n';
  EXPECT_EQ(::read(bound[0], &done, 1), 1);
  EXPECT_EQ(done, 'y');
  const auto channel = client::DaemonChannel::Connect(path);
  ::kill(listener, SIGKILL);
  ::waitpid(listener, nullptr, 0);
  ::close(bound[0]);
  ::close(bound[1]);
  ASSERT_RAISES(IOError, channel);
  EXPECT_THAT(channel.status().message(), HasSubstr("user 12345 listens at " + path));
}

}  // namespace
}  // namespace sheaf::testing
