// A reader of another user that is hostile: what it may do to memory, and what it may
// say.

#include "tests/hostile_reader.h"

#include <stdlib.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/check.h"
#include "daemon/access.h"
#include "format/layout.h"
#include "format/message.h"
#include "platform/file.h"
#include "platform/process.h"
#include "platform/unix_socket.h"
#include "region/cluster_config.h"
#include "sheaf/cluster.h"
#include "sheaf/status.h"
#include "sheaf/store.h"
#include "sheaf/types.h"
#include "testing/arrow_test.h"
#include "testing/eventually.h"
#include "tests/group_cluster.h"
#include "tests/member.h"
#include "tests/seeded_table.h"

namespace sheaf::testing {
namespace {

using ::testing::HasSubstr;

/// Of the session that a hostile one names, beside its own.
constexpr const char* kOtherSession = "SHEAF_TEST_SESSION";

region::ClusterConfig LoadConfig() {
  const std::string name = ResolveClusterName("").ValueOrDie();
  return region::ClusterConfig::Load(region::ClusterFilePath(name)).ValueOrDie();
}

// ---- What a member does, in its own process.

arrow::Status BeHostile() {
  const region::ClusterConfig config = LoadConfig();
  ARROW_ASSIGN_OR_RAISE(const auto store, Store::Connect());
  ARROW_ASSIGN_OR_RAISE(const auto table, store->Get("t"));
  ARROW_ASSIGN_OR_RAISE(const auto socket,
                        platform::ConnectUnix(config.socket_path({0})));
  ARROW_ASSIGN_OR_RAISE(const auto daemon, platform::GetPeerCredentials(socket.get()));
  HostileReader reader(config.memory_folder, daemon.process_id);
  reader.TryAll();
  for (const std::string& done : reader.done) Member::Say(done);
  // Three parts of two segments, and the lock.
  Member::Say("files " + std::to_string(reader.num_files));
  SHEAF_CHECK(reader.num_mappings >= 6);
  return CheckSeededTable(*table);
}

/// A reader that speaks to its daemon in messages of its own making.
class RawReader {
 public:
  using BuildBody =
      std::function<flatbuffers::Offset<void>(flatbuffers::FlatBufferBuilder&)>;

  RawReader() : config_(LoadConfig()) { Connect(); }

  void Connect() {
    socket_ = platform::ConnectUnix(config_.socket_path({0})).ValueOrDie();
  }
  arrow::Result<platform::Frame> Call(format::Body type, const BuildBody& body,
                                      std::span<const int> fds = {}) {
    flatbuffers::FlatBufferBuilder builder;
    const auto offset = body(builder);
    ARROW_RETURN_NOT_OK(platform::SendFrame(
        socket_.get(), format::FinishRequest(&builder, ++last_id_, type, offset), fds));
    ARROW_ASSIGN_OR_RAISE(platform::Frame frame, platform::ReceiveFrame(socket_.get()));
    ARROW_ASSIGN_OR_RAISE(const auto* message, format::ParseMessage(frame.payload));
    ARROW_RETURN_NOT_OK(format::ToStatus(*message));
    return frame;
  }
  arrow::Result<platform::Frame> Hello(uint64_t session = 0) {
    ARROW_ASSIGN_OR_RAISE(const auto pidfd,
                          platform::OpenPidFd(platform::CurrentProcessId()));
    const int fds[] = {pidfd.get()};
    return Call(
        format::Body::Hello,
        [&](auto& builder) {
          return format::CreateHelloDirect(
                     builder, format::kMessageVersion, config_.cluster_id,
                     platform::CurrentProcessId(), "raw", "x.lock", session)
              .Union();
        },
        fds);
  }
  arrow::Result<platform::Frame> Lease(const ObjectId& object) {
    const format::ObjectKey key = format::ToKey(object);
    return Call(format::Body::LeaseRequest, [&](auto& builder) {
      return format::CreateLeaseRequest(builder, &key).Union();
    });
  }
  arrow::Status Drop(uint32_t page, uint32_t index) {
    const format::LeaseCell cell(page, index);
    return Call(format::Body::DropLeaseRequest,
                [&](auto& builder) {
                  return format::CreateDropLeaseRequest(builder, &cell).Union();
                })
        .status();
  }
  arrow::Result<platform::Frame> Part(uint32_t segment, int part) {
    return Call(format::Body::PartRequest, [&](auto& builder) {
      return format::CreatePartRequest(builder, segment,
                                       static_cast<format::PartFile>(part))
          .Union();
    });
  }

 private:
  region::ClusterConfig config_;
  platform::UniqueFd socket_;
  uint64_t last_id_ = 0;
};

void SayRefusals(RawReader* reader) {
  const auto refused = [&](format::Body type, const RawReader::BuildBody& body) {
    Member::Say(reader->Call(type, body).status().message());
  };
  refused(format::Body::GrantRequest,
          [](auto& b) { return format::CreateGrantRequest(b, 1).Union(); });
  refused(format::Body::ReturnRequest,
          [](auto& b) { return format::CreateReturnRequest(b).Union(); });
  refused(format::Body::LeasePageRequest,
          [](auto& b) { return format::CreateLeasePageRequest(b).Union(); });
  refused(format::Body::SealRequest,
          [](auto& b) { return format::CreateSealRequest(b).Union(); });
  refused(format::Body::RetireRequest,
          [](auto& b) { return format::CreateRetireRequest(b).Union(); });
  refused(format::Body::KeepRequest,
          [](auto& b) { return format::CreateKeepRequest(b).Union(); });
  refused(format::Body::BindRequest,
          [](auto& b) { return format::CreateBindRequest(b).Union(); });
}

// Names what is others', and what cannot be.
arrow::Status SendHostileMessages() {
  RawReader reader;
  const auto ended = reader.Hello(std::stoull(std::getenv(kOtherSession)));
  Member::Say(ended.status().message());
  for (const auto type : {format::Body::ShutdownRequest, format::Body::NodeHello}) {
    reader.Connect();
    const auto sent = reader.Call(type, [&](auto& b) {
      return type == format::Body::NodeHello ? format::CreateNodeHello(b).Union()
                                             : format::CreateShutdownRequest(b).Union();
    });
    Member::Say(sent.status().message());
  }
  reader.Connect();
  ARROW_RETURN_NOT_OK(reader.Hello().status());
  SayRefusals(&reader);
  for (uint32_t page = 0; page < 8; ++page) {
    for (const uint32_t index : {0U, 1U, 503U, 504U, ~0U}) {
      SHEAF_CHECK(IsStaleGeneration(reader.Drop(page, index)));
    }
  }
  SHEAF_CHECK(IsStaleGeneration(reader.Drop(~0U, 0)));
  for (const ObjectId& object : {ObjectId{{~0U}, 0, 1}, ObjectId{{2}, 0, 1},
                                 ObjectId{{0}, ~0U, 1}, ObjectId{{0}, 0, 0}}) {
    SHEAF_CHECK(IsStaleGeneration(reader.Lease(object).status()));
  }
  SHEAF_CHECK(reader.Part(2, 0).status().IsInvalid());
  SHEAF_CHECK(reader.Part(0, 3).status().IsInvalid());
  SHEAF_CHECK(reader.Part(0, 255).status().IsInvalid());
  int num_leases = 0;
  arrow::Status full;
  while (full.ok()) {
    full = reader.Lease({{0}, 1, 7}).status();
    if (full.ok()) ++num_leases;
  }
  SHEAF_CHECK(full.IsCapacityError());
  SHEAF_CHECK(num_leases ==
              static_cast<int>(daemon::kReaderPagesMax * format::kLeaseCellsPerPage));
  std::vector<platform::Frame> parts;
  arrow::Status sent;
  while (sent.ok()) {
    auto part = reader.Part(0, 2);
    sent = part.status();
    if (part.ok()) parts.push_back(*std::move(part));
  }
  SHEAF_CHECK(sent.IsCapacityError());
  Member::Say("left");
  return arrow::Status::OK();
}

arrow::Status OpenManySessions() {
  std::vector<RawReader> readers;
  arrow::Status status;
  std::vector<platform::Frame> welcomes;
  while (status.ok()) {
    readers.emplace_back();
    auto welcome = readers.back().Hello();
    status = welcome.status();
    if (welcome.ok()) welcomes.push_back(*std::move(welcome));
  }
  Member::Say(std::to_string(welcomes.size()));
  Member::Say(status.message());
  return arrow::Status::OK();
}

const std::map<std::string, arrow::Status (*)()> kTasks = {
    {"hostile", BeHostile},
    {"messages", SendHostileMessages},
    {"many", OpenManySessions},
};

TEST(Member, Runs) {
  if (Member::task() == nullptr) GTEST_SKIP() << "runs in the processes of other tests";
  ::alarm(120);  // a watchdog
  EXPECT_OK(kTasks.at(Member::task())());
}

// ---- The tests.

using HostileReaderTest = GroupTest;

TEST_F(HostileReaderTest, AHostileReaderCannotChangeAByte) {
  StartForReaders();
  ASSERT_OK_AND_ASSIGN(const auto before, node0_->Get("t"));
  Member member = Member::Start("hostile", {kReaders});
  EXPECT_EQ(member.Hear(), "files 7");
  EXPECT_EQ(member.Await(), 0) << member.output();
  EXPECT_OK(CheckSeededTable(*before));
  EXPECT_OK(OpenAndCheck(node1_, "t"));
  EXPECT_OK(OpenAndCheck(node0_, "u"));
}

TEST_F(HostileReaderTest, WhatAHostileReaderSaysChangesNothingOfOthers) {
  StartForReaders();
  ASSERT_OK_AND_ASSIGN(const auto held, node0_->Get("t"));
  // The first session of the first daemon is the test's own.
  ::setenv(kOtherSession, std::to_string((uint64_t{1} << 32) + 1).c_str(), 1);
  Member member = Member::Start("messages", {kReaders});
  EXPECT_THAT(member.Hear(), HasSubstr("is not of process"));
  for (int i = 0; i < 2; ++i) EXPECT_THAT(member.Hear(), HasSubstr("only user 0"));
  for (int i = 0; i < 7; ++i) EXPECT_THAT(member.Hear(), HasSubstr("may only read"));
  EXPECT_EQ(member.Hear(), "left");
  EXPECT_EQ(member.Await(), 0) << member.output();
  EXPECT_EQ(node1_->Stat("t").ValueOrDie().leases, 1U);
  EXPECT_OK(CheckSeededTable(*held));
  EXPECT_TRUE(Eventually([&] { return node1_->Nodes().ValueOrDie()[0].sessions == 1; }));
  EXPECT_OK(node0_->Put("v", *SeededTable(4, kRows)));
}

TEST_F(HostileReaderTest, OneUserCannotTakeAllSessions) {
  StartForReaders();  // 64 lease pages
  Member member = Member::Start("many", {kReaders});
  EXPECT_EQ(member.Hear(), "4");
  EXPECT_THAT(member.Hear(), HasSubstr("all that another user may have"));
  EXPECT_EQ(member.Await(), 0) << member.output();
  Member next = Member::Start("hostile", {kReaders}, kMemberUser - 1);
  EXPECT_EQ(next.Await(), 0) << next.output();
}

}  // namespace
}  // namespace sheaf::testing
