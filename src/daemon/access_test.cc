#include "daemon/access.h"

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include <arrow/status.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "daemon/session_locks.h"
#include "format/message_generated.h"
#include "platform/file.h"
#include "platform/process.h"
#include "platform/test_folder.h"
#include "platform/unix_socket.h"
#include "region/cluster_config.h"
#include "testing/arrow_test.h"

namespace sheaf::daemon {
namespace {

using format::Access;
using format::Body;
using ::testing::HasSubstr;

constexpr uint32_t kReaders = 64'242;
constexpr uint32_t kWriters = 64'243;

platform::PeerCredentials Other(const std::vector<uint32_t>& group_ids) {
  return {platform::CurrentUserId() + 1, 17, group_ids};
}

AccessRules RulesOf(const std::string& group, const std::string& group_write) {
  region::ClusterConfig config;
  config.group = group;
  config.group_write = group_write;
  return AccessRules::Make(config).ValueOrDie();
}

TEST(Access, IsOfTheUserAndOfItsGroups) {
  const AccessRules rules = RulesOf("64242", "64243");
  ASSERT_OK_AND_ASSIGN(const auto own, rules.OwnerOf({platform::CurrentUserId(), 1, {}}));
  EXPECT_EQ(own.access, Access::Owner);
  ASSERT_OK_AND_ASSIGN(const auto reader, rules.OwnerOf(Other({1, kReaders})));
  EXPECT_EQ(reader.access, Access::Reader);
  ASSERT_OK_AND_ASSIGN(const auto writer, rules.OwnerOf(Other({kReaders, kWriters})));
  EXPECT_EQ(writer.access, Access::Writer);
  const arrow::Status stranger = rules.OwnerOf(Other({1, 2})).status();
  EXPECT_THAT(stranger.message(), HasSubstr("group '64242' may read"));
  EXPECT_THAT(stranger.message(), HasSubstr("group '64243' may write"));
}

TEST(Access, WithoutGroupsIsOfTheUserAlone) {
  for (const AccessRules& rules : {RulesOf("", ""), AccessRules()}) {
    const arrow::Status status = rules.OwnerOf(Other({0, kReaders})).status();
    EXPECT_THAT(status.message(), HasSubstr("sheaf up --group G"));
  }
  region::ClusterConfig config;
  config.group = "no-such-group";
  EXPECT_RAISES(KeyError, AccessRules::Make(config).status());
}

TEST(Access, OfAReaderIsForLittle) {
  const std::set<Body> allowed = {Body::PartRequest, Body::LeaseRequest,
                                  Body::DropLeaseRequest, Body::Goodbye};
  for (const Body body : format::EnumValuesBody()) {
    EXPECT_EQ(CheckAllowed(Access::Reader, body).ok(), allowed.contains(body))
        << format::EnumNameBody(body);
  }
}

TEST(Access, OfAWriterIsNotForTheClusterItself) {
  for (const Body body :
       {Body::ShutdownRequest, Body::NodeHello, Body::ForgetNodeRequest}) {
    ASSERT_OK(CheckAllowed(Access::Owner, body));
    EXPECT_RAISES(Invalid, CheckAllowed(Access::Writer, body));
  }
  ASSERT_OK(CheckAllowed(Access::Writer, Body::SealRequest));
}

class SessionLocksTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_OK(locks_.MakeFolder()); }

  platform::TestFolder folder_;
  SessionLocks locks_{folder_.File("locks")};
};

TEST_F(SessionLocksTest, TheLockOfAnotherUsersSessionLastsAsLongAsItsDescriptor) {
  const SessionOwner owner{17, Access::Reader};
  ASSERT_OK_AND_ASSIGN(auto lock, locks_.MakeFor(5, owner));
  EXPECT_TRUE(locks_.IsHeld(5).ValueOrDie());
  EXPECT_EQ(locks_.OwnerOf(5).ValueOrDie(), owner);
  const auto is_session = [](uint64_t) { return false; };
  EXPECT_TRUE(locks_.RemoveStale(is_session));
  lock = platform::UniqueFd();
  EXPECT_FALSE(locks_.IsHeld(5).ValueOrDie());
  EXPECT_FALSE(locks_.RemoveStale(is_session));
  EXPECT_FALSE(
      platform::OpenFile(folder_.File("locks/5.lock"), platform::Access::kRead).ok());
}

TEST_F(SessionLocksTest, ALockThatAProcessOfThisUserMadeIsOfThisUser) {
  ASSERT_OK_AND_ASSIGN(const auto lock,
                       platform::FileLock::Acquire(folder_.File("locks/x.lock")));
  ASSERT_OK(locks_.CheckHeld("x.lock"));
  ASSERT_OK(locks_.GiveTo(6, "x.lock"));
  EXPECT_EQ(locks_.OwnerOf(6).ValueOrDie(),
            (SessionOwner{platform::CurrentUserId(), Access::Owner}));
  EXPECT_FALSE(locks_.RemoveStale([](uint64_t id) { return id == 6; }));
  EXPECT_TRUE(locks_.IsHeld(6).ValueOrDie());
  for (const char* name : {"", ".lock", "../x.lock", "y.lock"}) {
    EXPECT_RAISES(Invalid, locks_.CheckHeld(name));
  }
}

}  // namespace
}  // namespace sheaf::daemon
