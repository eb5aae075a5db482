// Two publishers of one name, every order of their steps, against a plain model of what
// readers may see (C3 to C9).

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "directory/test_cluster.h"
#include "sheaf/types.h"
#include "testing/arrow_test.h"

namespace sheaf::directory {
namespace {

enum class Kind : uint8_t { kPut, kReplace, kReplaceVersionOne };
/// What becomes of a publisher after its name was granted.
enum class End : uint8_t { kCommits, kDies, kGivesUp };

constexpr int kSteps = 4;
const std::string kName = "x";

struct Plan {
  Kind kind;
  End end;
};

std::string ToString(const Plan& plan) {
  constexpr const char* kKinds[] = {"put", "replace", "replace version 1"};
  constexpr const char* kEnds[] = {"commits", "dies", "gives up"};
  return std::string(kKinds[static_cast<int>(plan.kind)]) + " " +
         kEnds[static_cast<int>(plan.end)];
}

/// One publisher, a step at a time: bind, version, bound, commit, retire what is
/// superseded.
class Publisher {
 public:
  Publisher(TestCluster* cluster, uint32_t home, Plan plan)
      : cluster_(cluster), plan_(plan), object_(cluster->Seal(kName, home)) {}

  void Step() {
    const int step = step_++;
    if (step == 0) return AskForName();
    if (!version_ || is_over_) return;  // Denied, or gone.
    if (step == 1) {
      Decide();
    } else if (step == 2) {
      ASSERT_OK_AND_ASSIGN(superseded_,
                           cluster_->leader().Commit(kName, object_, *version_));
      has_committed_ = true;
    } else {
      ASSERT_OK(cluster_->RetireAll(superseded_));
    }
  }

  const ObjectId& object() const { return object_; }
  const std::optional<Version>& version() const { return version_; }
  bool has_committed() const { return has_committed_; }
  bool is_compare_and_swap() const { return plan_.kind == Kind::kReplaceVersionOne; }

 private:
  void AskForName() {
    CatalogLeader::BindRequest request{kName, object_, plan_.kind != Kind::kPut};
    if (is_compare_and_swap()) request.expected_sequence = 1;
    const auto version = cluster_->leader().Bind(request);
    if (version.ok()) {
      version_ = *version;
      const auto again = cluster_->leader().Bind(request);  // Idempotent.
      ASSERT_OK(again);
      EXPECT_EQ(*again, *version_);
    } else {
      ASSERT_OK(cluster_->home(object_).Retire(object_));
    }
  }

  void Decide() {
    if (plan_.end == End::kCommits) {
      ASSERT_OK(cluster_->MakeBound(object_, *version_));
      return;
    }
    is_over_ = true;
    ASSERT_OK(cluster_->home(object_).Retire(object_));
    if (plan_.end == End::kGivesUp) cluster_->leader().Unbind(kName, object_);
  }

  TestCluster* cluster_;
  Plan plan_;
  ObjectId object_;
  int step_ = 0;
  std::optional<Version> version_;
  bool is_over_ = false;
  bool has_committed_ = false;
  std::vector<ObjectId> superseded_;
};

/// One run: who steps when, over a name that is there or not.
class Race {
 public:
  Race(bool exists, Plan a, Plan b)
      : cluster_({.segments = 2, .slots_max = 64, .records_size_bytes = 64 << 10}) {
    EXPECT_OK(cluster_.Claim(1));
    if (exists) first_ = *cluster_.Publish(kName);
    publishers_.emplace_back(&cluster_, 0, a);
    publishers_.emplace_back(&cluster_, 1, b);
  }

  void Step(int publisher) {
    publishers_[static_cast<size_t>(publisher)].Step();
    CheckReader();
  }

  void CheckEnd() {
    const std::vector<ObjectId> bound = cluster_.AllBound();
    ASSERT_LE(bound.size(), 1U);  // I8
    const auto found = cluster_.Find(kName);
    ASSERT_OK(found);
    ASSERT_EQ(found->has_value(), !bound.empty());
    if (*found) {
      EXPECT_EQ((*found)->object, bound.front());
    }
    const Publisher& a = publishers_[0];
    const Publisher& b = publishers_[1];
    if (a.version() && b.version()) {
      EXPECT_NE(*a.version(), *b.version());
    }
    if (a.has_committed() && b.has_committed()) CheckOrder(a, b);
    // The name is not blocked, whoever died.
    ASSERT_OK_AND_ASSIGN(const Found next, cluster_.Publish(kName, 0, /*replace=*/true));
    for (const Publisher& publisher : publishers_) {
      if (publisher.version()) {
        EXPECT_LT(*publisher.version(), next.version);
      }
    }
    ASSERT_EQ(cluster_.AllBound(), std::vector{next.object});
    // A new leader finds the same.
    ASSERT_OK(cluster_.Claim(2, 1));
    ASSERT_OK_AND_ASSIGN(const auto after, cluster_.Find(kName));
    ASSERT_TRUE(after.has_value());
    EXPECT_EQ(after->object, next.object);
  }

 private:
  /// Once a version is committed readers find it or a later one, always one that is
  /// bound.
  void CheckReader() {
    Version lowest = first_ ? first_->version : Version{};
    for (const Publisher& publisher : publishers_) {
      if (publisher.has_committed()) lowest = std::max(lowest, *publisher.version());
    }
    const auto found = cluster_.Find(kName);
    ASSERT_OK(found);
    if (!*found) {
      ASSERT_EQ(lowest, Version{}) << "a published name is absent";
      return;
    }
    ASSERT_GE((*found)->version, lowest);
    ASSERT_THAT(cluster_.AllBound(), ::testing::Contains((*found)->object));
  }

  /// A compare-and-swap that committed replaced version 1 and nothing else.
  void CheckOrder(const Publisher& a, const Publisher& b) const {
    EXPECT_FALSE(a.is_compare_and_swap() && b.is_compare_and_swap());
    const Publisher& later = *a.version() > *b.version() ? a : b;
    EXPECT_FALSE(first_ && later.is_compare_and_swap());
  }

  TestCluster cluster_;
  std::optional<Found> first_;
  std::vector<Publisher> publishers_;
};

/// Calls `run` with each order of `kSteps` steps of 0 and as many of 1.
template <typename RunFn>
void ForEachOrder(RunFn run) {
  std::vector<int> order(kSteps, 0);
  order.insert(order.end(), kSteps, 1);
  do {
    run(order);
  } while (std::ranges::next_permutation(order).found);
}

TEST(Interleaving, OfTwoPublishersOfOneName) {
  constexpr Kind kKinds[] = {Kind::kPut, Kind::kReplace, Kind::kReplaceVersionOne};
  constexpr End kEnds[] = {End::kCommits, End::kDies, End::kGivesUp};
  int runs = 0;
  for (int i = 0; i < 2 * 9 * 9; ++i) {
    const bool exists = i % 2 == 1;
    const Plan a{kKinds[i / 2 % 3], kEnds[i / 6 % 3]};
    const Plan b{kKinds[i / 18 % 3], kEnds[i / 54]};
    ForEachOrder([&](const std::vector<int>& order) {
      SCOPED_TRACE(ToString(a) + " | " + ToString(b) + (exists ? ", exists: " : ": ") +
                   ::testing::PrintToString(order));
      if (::testing::Test::HasFatalFailure()) return;
      Race race(exists, a, b);
      for (const int publisher : order) race.Step(publisher);
      race.CheckEnd();
      ++runs;
    });
  }
  EXPECT_EQ(runs, 2 * 81 * 70);
}

}  // namespace
}  // namespace sheaf::directory
