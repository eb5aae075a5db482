#include "arbiter/arbiter.h"

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "arbiter/entries.h"
#include "arbiter/etcd_client.h"
#include "arbiter/test_etcd.h"
#include "testing/arrow_test.h"
#include "testing/eventually.h"

namespace sheaf::arbiter {
namespace {

using testing::Eventually;
using ::testing::HasSubstr;

TEST(Entries, AreReadAsInput) {
  for (const char* text : {"", "[", "1", "{}", R"({"node": -1, "boot": 1, "host": "a"})",
                           R"({"node": 5000000000, "boot": 1, "host": "a"})",
                           R"({"node": 1, "boot": "x", "host": "a"})",
                           R"({"node": 1, "boot": 1, "host": 7})"}) {
    EXPECT_TRUE(ParseDaemon(text).status().IsIOError()) << text;
    EXPECT_TRUE(ParseOffCertificate(text).status().IsIOError()) << text;
  }
  ASSERT_OK_AND_ASSIGN(const Daemon daemon,
                       ParseDaemon(ToText(Daemon{{3}, "a\"\xFF", 7})));
  EXPECT_EQ(daemon.node.value, 3);
  EXPECT_EQ(daemon.boot, 7);
}

/// The loop of one daemon: runs what was posted when it is told to.
class Loop {
 public:
  void Post(std::function<void()> action) {
    const std::lock_guard lock(mutex_);
    actions_.push_back(std::move(action));
  }
  void RunPosted() {
    std::vector<std::function<void()>> actions;
    {
      const std::lock_guard lock(mutex_);
      actions.swap(actions_);
    }
    for (const auto& action : actions) action();
  }

 private:
  std::mutex mutex_;
  std::vector<std::function<void()>> actions_;
};

class ArbiterTest : public WithEtcd {
 protected:
  /// What one daemon was told.
  struct Member {
    Loop loop;
    std::vector<OffCertificate> offs;
    std::vector<arrow::Status> changes;
    std::vector<arrow::Status> taken;
    std::unique_ptr<Arbiter> arbiter;  // First to go.

    bool Sees(const std::function<bool()>& holds) {
      return Eventually([&] {
        loop.RunPosted();
        return holds();
      });
    }
    bool IsTold(uint64_t incarnation) {
      return Sees(
          [&] { return !offs.empty() && offs.back().incarnation == incarnation; });
    }
    bool SeesChange(bool is_ok) {
      return Sees([&] { return !changes.empty() && changes.back().ok() == is_ok; });
    }
  };

  arrow::Result<std::unique_ptr<Member>> Start(uint32_t node, uint64_t boot) {
    auto member = std::make_unique<Member>();
    Member* const m = member.get();
    ArbiterOptions options;
    options.etcd.endpoints = server_->url();
    options.etcd_timeout = std::chrono::milliseconds(500);
    options.key_prefix = kPrefix;
    options.time_to_live = std::chrono::seconds(1);
    options.suspect_after = suspect_after_;
    ARROW_ASSIGN_OR_RAISE(
        m->arbiter,
        Arbiter::Start(
            options, {{node}, "host" + std::to_string(boot), boot},
            [m](std::function<void()> action) { m->loop.Post(std::move(action)); },
            {[m](const OffCertificate& off) { m->offs.push_back(off); },
             [m](const arrow::Status& status) { m->changes.push_back(status); },
             [m](const arrow::Status& status) { m->taken.push_back(status); },
             [](const OffCertificate&, const arrow::Status&) {}}));
    return member;
  }

  arrow::Status CertifyOff(Member* member, const OffCertificate& certificate) {
    std::optional<arrow::Status> told;
    member->arbiter->CertifyOff(certificate,
                                [&](const arrow::Status& status) { told = status; });
    if (!member->Sees([&] { return told.has_value(); })) {
      return arrow::Status::IOError("nothing was told");
    }
    return *told;
  }

  std::optional<EtcdClient::Entry> NodeEntry(uint32_t node) {
    return client_->Get(NodeKey(kPrefix, {node})).ValueOrDie();
  }
  /// As a daemon on host beta does it that begins after the registration has ended.
  void RegisterBeta(uint32_t node, int64_t lease) {
    const auto own = NodeEntry(node);
    ASSERT_TRUE(own.has_value());
    ASSERT_OK_AND_ASSIGN(const bool is_replaced,
                         client_->PutIf(NodeKey(kPrefix, {node}), own->revision,
                                        ToText(Daemon{{node}, "beta", 200}), lease));
    ASSERT_TRUE(is_replaced);
  }

  std::chrono::milliseconds suspect_after_{200};
};

TEST_F(ArbiterTest, AnotherHostMayNotHaveTheSameNode) {
  ASSERT_OK_AND_ASSIGN(auto first, Start(3, 100));
  const auto second = Start(3, 200);
  ASSERT_TRUE(second.status().IsAlreadyExists()) << second.status();
  EXPECT_THAT(second.status().message(), HasSubstr("'host100'"));
  first.reset();  // says goodbye
  ASSERT_OK(Start(3, 200).status());
}

TEST_F(ArbiterTest, TheNextDaemonOfTheSameHostTakesOver) {
  ASSERT_OK_AND_ASSIGN(const auto first, Start(3, 100));
  ASSERT_OK_AND_ASSIGN(const auto second, Start(3, 100));
  EXPECT_TRUE(NodeEntry(3).has_value());
}

TEST_F(ArbiterTest, ACertificateReachesThoseThatComeLater) {
  ASSERT_OK_AND_ASSIGN(const auto first, Start(0, 100));
  ASSERT_OK(CertifyOff(first.get(), {{2}, 77, 5}));
  EXPECT_TRUE(first->IsTold(5));
  ASSERT_OK_AND_ASSIGN(const auto second, Start(1, 200));
  EXPECT_TRUE(second->IsTold(5));
  EXPECT_EQ(second->offs.back().node, NodeId{2});
  EXPECT_EQ(second->offs.back().format_epoch, 77);
}

TEST_F(ArbiterTest, ACertificateIsNeverLowered) {
  ASSERT_OK_AND_ASSIGN(const auto member, Start(0, 100));
  ASSERT_OK(CertifyOff(member.get(), {{2}, 77, 5}));
  ASSERT_OK(CertifyOff(member.get(), {{2}, 77, 4}));
  member->offs.clear();
  EXPECT_TRUE(member->IsTold(5));
  ASSERT_OK(CertifyOff(member.get(), {{2}, 78, 1}));  // of other memory
  EXPECT_TRUE(member->IsTold(1));
}

TEST_F(ArbiterTest, WithoutEtcdItStartsAndRegistersLater) {
  server_->Kill();
  ASSERT_OK_AND_ASSIGN(const auto member, Start(3, 100));
  EXPECT_TRUE(member->SeesChange(false));
  EXPECT_TRUE(CertifyOff(member.get(), {{2}, 77, 5}).IsIOError());
  ASSERT_OK(server_->Restart());
  EXPECT_TRUE(member->SeesChange(true));
  EXPECT_TRUE(NodeEntry(3).has_value());
}

TEST_F(ArbiterTest, RegistersAgainAfterAnEtcdThatLostAll) {
  ASSERT_OK_AND_ASSIGN(const auto member, Start(3, 100));
  EXPECT_TRUE(member->SeesChange(true));
  server_->Kill();
  EXPECT_TRUE(member->SeesChange(false));
  server_->ForgetAll();
  ASSERT_OK(server_->Restart());
  EXPECT_TRUE(member->SeesChange(true));
  EXPECT_TRUE(NodeEntry(3).has_value());
}

TEST_F(ArbiterTest, TheFormatEpochOutlivesMemoryAndEtcd) {
  const auto epoch = [&] { return LoadFormatEpoch(client_.get(), kPrefix, {3}); };
  {
    ASSERT_OK_AND_ASSIGN(const auto member, Start(3, 100));
    EXPECT_EQ(member->arbiter->last_format_epoch(), 0);
    member->arbiter->SetFormatEpoch(41);
    EXPECT_TRUE(member->Sees([&] { return epoch().ValueOrDie() == 41; }));
    server_->Kill();
    EXPECT_TRUE(member->SeesChange(false));
    server_->ForgetAll();
    ASSERT_OK(server_->Restart());
    EXPECT_TRUE(member->Sees([&] { return epoch().ValueOr(0) == 41; }));
  }
  ASSERT_OK(RaiseFormatEpoch(client_.get(), kPrefix, {3}, 40));  // lowers nothing
  ASSERT_OK_AND_ASSIGN(const auto next, Start(3, 101));
  EXPECT_EQ(next->arbiter->last_format_epoch(), 41);
}

TEST_F(ArbiterTest, OneThatWasReplacedMeanwhileIsToldToEnd) {
  ASSERT_OK_AND_ASSIGN(const auto member, Start(3, 100));
  RegisterBeta(3, /*lease=*/0);
  ASSERT_TRUE(member->Sees([&] { return !member->taken.empty(); }));
  EXPECT_THAT(member->taken.back().message(), HasSubstr("'beta'"));
}

/// What nobody renews is of nobody: one that ended on a boot before this one, or that was
/// refused since our heart beats.
TEST_F(ArbiterTest, AnothersRegistrationThatEndsByItselfTakesNothing) {
  suspect_after_ = std::chrono::seconds(60);
  ASSERT_OK_AND_ASSIGN(const auto member, Start(3, 100));
  ASSERT_OK_AND_ASSIGN(const int64_t lease, client_->GrantLease(std::chrono::seconds(1)));
  RegisterBeta(3, lease);
  EXPECT_TRUE(member->Sees([&] {
    const auto entry = NodeEntry(3);
    return entry && entry->lease != lease;
  }));
  member->loop.RunPosted();
  EXPECT_TRUE(member->taken.empty());
}

/// Its thread goes on all the same.
TEST_F(ArbiterTest, ADaemonWhoseLoopHangsIsRegisteredNoMore) {
  ASSERT_OK_AND_ASSIGN(const auto member, Start(3, 100));
  // A start may take its time; it ends when the loop runs first.
  ASSERT_OK(CertifyOff(member.get(), {{2}, 77, 5}));
  EXPECT_TRUE(member->IsTold(5));
  EXPECT_TRUE(Eventually([&] { return !NodeEntry(3).has_value(); }));
  EXPECT_TRUE(member->Sees([&] { return NodeEntry(3).has_value(); }));
  EXPECT_TRUE(member->taken.empty());
}

TEST_F(ArbiterTest, ARegistrationThatSomebodyRemovedIsMadeAgain) {
  ASSERT_OK_AND_ASSIGN(const auto member, Start(3, 100));
  ASSERT_OK(client_->RevokeLease(NodeEntry(3).value().lease));
  EXPECT_TRUE(Eventually([&] { return NodeEntry(3).has_value(); }));
  EXPECT_TRUE(member->taken.empty());
}

TEST_F(ArbiterTest, OneLeadsUntilItLetsOthersOrIsSilent) {
  ASSERT_OK_AND_ASSIGN(auto first, Start(0, 100));
  ASSERT_OK_AND_ASSIGN(const auto second, Start(1, 200));
  const auto leads = [](Member* member) {
    return Eventually([&] { return member->arbiter->MayLead(); });
  };
  EXPECT_TRUE(leads(first.get()));
  EXPECT_FALSE(second->arbiter->MayLead());  // has not been told yet
  const auto holder = [&] {
    return ParseDaemon(client_->Get(LeaderKey(kPrefix)).ValueOrDie().value().value)
        .ValueOrDie()
        .node;
  };
  EXPECT_EQ(holder(), NodeId{0});
  first->arbiter->LetOthersLead();
  EXPECT_TRUE(leads(second.get()));
  EXPECT_EQ(holder(), NodeId{1});
  second->arbiter.reset();  // ends, and its key with it
  EXPECT_TRUE(leads(first.get()));
  ASSERT_OK_AND_ASSIGN(const auto next, Start(0, 100));  // as after a crash of the first
  EXPECT_TRUE(leads(next.get()));
}

TEST_F(ArbiterTest, WithoutEtcdAnybodyMayLead) {
  ASSERT_OK_AND_ASSIGN(const auto first, Start(0, 100));
  ASSERT_OK_AND_ASSIGN(const auto second, Start(1, 200));
  EXPECT_TRUE(Eventually([&] { return first->arbiter->MayLead(); }));
  server_->Kill();
  EXPECT_TRUE(Eventually([&] { return second->arbiter->MayLead(); }));
}

TEST_F(ArbiterTest, AnEtcdThatHangsHoldsNobodyUp) {
  ASSERT_OK_AND_ASSIGN(const auto member, Start(3, 100));
  server_->Pause();
  EXPECT_TRUE(member->SeesChange(false));
  server_->Continue();
  EXPECT_TRUE(member->SeesChange(true));
}

}  // namespace
}  // namespace sheaf::arbiter
