#include "arbiter/fencing.h"

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>
#include <gtest/gtest.h>

#include "arbiter/arbiter.h"
#include "arbiter/entries.h"
#include "arbiter/test_etcd.h"
#include "platform/test_folder.h"
#include "testing/arrow_test.h"
#include "testing/eventually.h"

namespace sheaf::arbiter {
namespace {

using testing::Eventually;

/// What one daemon does about a node that is silent in memory. The test says what time it
/// is.
class FencingTest : public WithEtcd {
 protected:
  void SetUp() override {
    WithEtcd::SetUp();
    const std::string program = folder_.path() + "/fence";
    std::ofstream(program) << "#!/bin/sh\necho \"$1\" >> " << folder_.path()
                           << "/calls\n";
    std::filesystem::permissions(program, std::filesystem::perms::owner_all);
    options_.key_prefix = kPrefix;
    options_.time_to_live = std::chrono::seconds(60);
    options_.fence_command = program;
    fencing_.emplace(options_, client_.get());
  }

  /// Looks `seconds` after the look before.
  void LookAfter(int seconds) {
    now_ += std::chrono::seconds(seconds);
    const auto outcome = fencing_->Advance(suspects_, {now_, registration_});
    ASSERT_OK(outcome.status());
    if (*outcome) outcome_ = **outcome;
  }
  /// For less than the time to live, but nearly.
  void LookForLong() {
    for (const int seconds : {20, 20, 19}) LookAfter(seconds);
  }
  void Register(uint32_t node) {
    ASSERT_OK(client_->PutIf(NodeKey(kPrefix, {node}), 0, "it", 0).status());
  }
  void Unregister(uint32_t node) {
    ASSERT_OK_AND_ASSIGN(const auto entry, client_->Get(NodeKey(kPrefix, {node})));
    ASSERT_OK(client_->RemoveIf(entry.value().key, entry->revision).status());
  }
  /// The key is taken before the command starts.
  bool HasBegun() {
    return client_->Get(FenceKey(kPrefix, {2})).ValueOrDie().has_value();
  }

  platform::TestFolder folder_;
  ArbiterOptions options_;
  std::optional<Fencing> fencing_;
  std::chrono::nanoseconds now_{0};
  int64_t registration_ = 7;
  std::vector<Suspect> suspects_ = {{{{2}, 77, 5}, "beta"}};
  std::optional<Fencing::Outcome> outcome_;
};

TEST_F(FencingTest, ANodeThatIsMissingForTheWholeTimeToLiveIsFenced) {
  LookAfter(0);
  LookForLong();
  EXPECT_FALSE(HasBegun());
  LookAfter(1);
  EXPECT_TRUE(HasBegun());
  EXPECT_TRUE(Eventually([&] {
    LookAfter(0);
    return outcome_.has_value();
  }));
  ASSERT_OK(outcome_->status);
  ASSERT_OK_AND_ASSIGN(const auto off, client_->Get(OffKey(kPrefix, {2})));
  ASSERT_OK_AND_ASSIGN(const auto held, ParseOffCertificate(off.value().value));
  EXPECT_EQ(held.incarnation, 5);
}

/// Whatever casts doubt on the looks before makes the time begin anew.
TEST_F(FencingTest, OneThatWasThereOrMayHaveBeenIsWaitedForAnew) {
  const std::vector<std::function<void()>> doubts = {
      [&] {  // its lease had just expired when it renewed it
        Register(2);
        LookAfter(0);
        Unregister(2);
      },
      [&] { now_ += std::chrono::seconds(61); },  // we were away
      [&] { fencing_->LoseSight(); },             // etcd was
      [&] { ++registration_; },                   // etcd had lost even us
      [&] { suspects_[0].life.incarnation = 6; },
      [&] {  // its heart beat
        const auto suspects = std::exchange(suspects_, {});
        LookAfter(0);
        suspects_ = suspects;
      },
      [&] {  // a backup of etcd took its place: who came since is not in it
        server_->Kill();
        server_->ForgetAll();
        ASSERT_OK(server_->Restart());
      }};
  LookAfter(0);
  for (const auto& doubt : doubts) {
    LookForLong();
    doubt();
    LookAfter(1);
    EXPECT_FALSE(HasBegun());
  }
  LookForLong();
  LookAfter(1);
  EXPECT_TRUE(HasBegun());
}

/// The moment between the last look and the command.
TEST_F(FencingTest, TheKeyToFenceANodeIsNotGivenWhileItIsRegistered) {
  Register(2);
  ASSERT_OK_AND_ASSIGN(const bool is_put,
                       client_->PutIf(FenceKey(kPrefix, {2}), 0, "it", 0,
                                      /*absent=*/NodeKey(kPrefix, {2})));
  EXPECT_FALSE(is_put);
  EXPECT_FALSE(HasBegun());
}

}  // namespace
}  // namespace sheaf::arbiter
