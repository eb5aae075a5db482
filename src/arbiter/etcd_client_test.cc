#include "arbiter/etcd_client.h"

#include <chrono>
#include <cstdint>
#include <fstream>
#include <string>

#include <arrow/status.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "arbiter/test_etcd.h"
#include "base/etcd_access.h"
#include "platform/test_folder.h"
#include "testing/arrow_test.h"

namespace sheaf::arbiter {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

using EtcdClientTest = WithEtcd;

TEST_F(EtcdClientTest, KeepsBytesOfAnyKindAndListsThemByPrefix) {
  const std::string value("a\0\xFF\"\n", 5);
  ASSERT_OK_AND_ASSIGN(const bool is_new, client_->PutIf("p/1", 0, value, 0));
  EXPECT_TRUE(is_new);
  ASSERT_OK(client_->PutIf("p/2", 0, "", 0).status());
  ASSERT_OK(client_->PutIf("q", 0, "other", 0).status());
  ASSERT_OK_AND_ASSIGN(const auto entries, client_->List("p/"));
  ASSERT_EQ(entries.size(), 2);
  EXPECT_EQ(entries[0].key, "p/1");
  EXPECT_EQ(entries[0].value, value);
  EXPECT_EQ(entries[1].value, "");
  ASSERT_OK_AND_ASSIGN(const auto absent, client_->Get("p"));
  EXPECT_FALSE(absent.has_value());
}

TEST_F(EtcdClientTest, WritesOnlyOverTheRevisionThatWasSeen) {
  ASSERT_OK_AND_ASSIGN(const bool first, client_->PutIf("k", 0, "1", 0));
  ASSERT_OK_AND_ASSIGN(const bool second, client_->PutIf("k", 0, "2", 0));
  EXPECT_TRUE(first);
  EXPECT_FALSE(second);
  ASSERT_OK_AND_ASSIGN(const auto entry, client_->Get("k"));
  EXPECT_EQ(entry.value().value, "1");
  ASSERT_OK_AND_ASSIGN(const bool third, client_->PutIf("k", entry->revision, "3", 0));
  EXPECT_TRUE(third);
}

TEST_F(EtcdClientTest, RemovesOnlyTheRevisionThatWasSeen) {
  ASSERT_OK(client_->PutIf("k", 0, "1", 0).status());
  ASSERT_OK_AND_ASSIGN(const auto entry, client_->Get("k"));
  ASSERT_OK_AND_ASSIGN(const bool wrong, client_->RemoveIf("k", entry->revision + 1));
  EXPECT_FALSE(wrong);
  ASSERT_OK_AND_ASSIGN(const bool right, client_->RemoveIf("k", entry->revision));
  EXPECT_TRUE(right);
  ASSERT_OK_AND_ASSIGN(const auto gone, client_->Get("k"));
  EXPECT_FALSE(gone.has_value());
}

TEST_F(EtcdClientTest, ALeaseTakesItsKeysWithIt) {
  ASSERT_OK_AND_ASSIGN(const int64_t lease,
                       client_->GrantLease(std::chrono::seconds(60)));
  ASSERT_OK_AND_ASSIGN(const bool is_put, client_->PutIf("k", 0, "1", lease));
  EXPECT_TRUE(is_put);
  ASSERT_OK_AND_ASSIGN(const bool is_alive, client_->KeepAlive(lease));
  EXPECT_TRUE(is_alive);
  ASSERT_OK(client_->RevokeLease(lease));
  ASSERT_OK_AND_ASSIGN(const auto entry, client_->Get("k"));
  EXPECT_FALSE(entry.has_value());
  ASSERT_OK_AND_ASSIGN(const bool is_alive_still, client_->KeepAlive(lease));
  EXPECT_FALSE(is_alive_still);
  ASSERT_OK(client_->RevokeLease(lease));
}

TEST_F(EtcdClientTest, AsksTheNextMemberIfOneDoesNotAnswer) {
  ASSERT_OK_AND_ASSIGN(
      const auto client,
      EtcdClient::Make({.endpoints = "http://127.0.0.1:1, " + server_->url() + "/"}));
  ASSERT_OK(client->PutIf("k", 0, "1", 0).status());
  ASSERT_OK_AND_ASSIGN(const auto entry, client->Get("k"));
  EXPECT_EQ(entry.value().value, "1");
}

TEST(EtcdClient, RefusesWhatIsNoUrl) {
  for (const char* endpoints :
       {"", "127.0.0.1:2379", "http://a:1,ftp://b", "http://me:secret@a:1"}) {
    const arrow::Status status = EtcdClient::Make({.endpoints = endpoints}).status();
    EXPECT_TRUE(status.IsInvalid());
    EXPECT_THAT(status.message(), Not(HasSubstr("secret")));
  }
}

/// An etcd that lets nobody in but one user.
class WithUsers : public WithEtcd {
 protected:
  void SetUp() override {
    WithEtcd::SetUp();
    if (server_ == nullptr) return;
    ASSERT_OK(server_->DemandUser("sheaf", kPassword, "p/"));
    SetPassword(kPassword);
    access_ = {.endpoints = server_->url(),
               .user = "sheaf",
               .password_file = folder_.path() + "/password"};
    ASSERT_OK_AND_ASSIGN(client_, EtcdClient::Make(access_));
  }
  void SetPassword(const std::string& password) {
    std::ofstream(folder_.path() + "/password") << password << "\n";
  }

  static constexpr const char* kPassword = "a \"word\" of mine";
  platform::TestFolder folder_;
  EtcdAccess access_;
};

using EtcdUserTest = WithUsers;

TEST_F(EtcdUserTest, SignsInWhenItIsAskedTo) {
  ASSERT_OK_AND_ASSIGN(const int64_t lease,
                       client_->GrantLease(std::chrono::seconds(60)));
  ASSERT_OK_AND_ASSIGN(const bool is_put, client_->PutIf("p/k", 0, "1", lease));
  EXPECT_TRUE(is_put);
  ASSERT_OK_AND_ASSIGN(const bool is_alive, client_->KeepAlive(lease));
  EXPECT_TRUE(is_alive);
  ASSERT_OK_AND_ASSIGN(const auto entry, client_->Get("p/k"));
  EXPECT_EQ(entry.value().value, "1");
  EXPECT_THAT(client_->Get("q").status().message(), HasSubstr("permission denied"));
  ASSERT_OK(client_->RevokeLease(lease));
}

/// So it is, without a word, five minutes after it was used last.
TEST_F(EtcdUserTest, SignsInAgainWhenItsTokenIsRefused) {
  ASSERT_OK(client_->PutIf("p/k", 0, "1", 0).status());
  ASSERT_OK(server_->ChangePassword("sheaf", "another"));
  SetPassword("another");
  ASSERT_OK_AND_ASSIGN(const auto entry, client_->Get("p/k"));
  EXPECT_EQ(entry.value().value, "1");
}

TEST_F(EtcdUserTest, GoesOnAfterARestartOfEtcd) {
  ASSERT_OK(client_->PutIf("p/k", 0, "1", 0).status());
  server_->Kill();
  ASSERT_OK(server_->Restart());
  ASSERT_OK_AND_ASSIGN(const auto entry, client_->Get("p/k"));
  EXPECT_EQ(entry.value().value, "1");
}

TEST_F(EtcdUserTest, AWrongPasswordIsSaidAndNotShown) {
  SetPassword("not that");
  const arrow::Status status = client_->Get("p/k").status();
  EXPECT_TRUE(status.IsIOError());
  EXPECT_THAT(status.message(), AllOf(HasSubstr("'sheaf'"), HasSubstr("/password"),
                                      Not(HasSubstr("not that"))));
  SetPassword(kPassword);  // without another start
  ASSERT_OK(client_->Get("p/k").status());
  access_.password_file += "-of-nobody";
  ASSERT_OK_AND_ASSIGN(const auto client, EtcdClient::Make(access_));
  EXPECT_THAT(client->Get("p/k").status().message(), HasSubstr("password-of-nobody"));
}

}  // namespace
}  // namespace sheaf::arbiter
