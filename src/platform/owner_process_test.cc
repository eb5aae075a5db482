#include "platform/owner_process.h"

#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

namespace sheaf::platform {
namespace {

/// True if `body` returns true in a forked child.
template <typename Body>
bool HoldsInChild(Body body) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(body() ? 0 : 1);
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

TEST(OwnerProcess, IsNoneOfItsDescendants) {
  const OwnerProcess owner;
  EXPECT_TRUE(owner.IsThisOne());
  EXPECT_TRUE(HoldsInChild([&] {
    const OwnerProcess child;
    return !owner.IsThisOne() && child.IsThisOne() && HoldsInChild([&] {
      return !owner.IsThisOne() && !child.IsThisOne() && OwnerProcess().IsThisOne();
    });
  }));
  EXPECT_TRUE(owner.IsThisOne());
}

TEST(OwnerProcess, KnowsWhetherAChildInheritedIt) {
  const OwnerProcess before;
  EXPECT_FALSE(before.HasForked());
  EXPECT_TRUE(HoldsInChild([&] {
    const OwnerProcess child;
    // What a child inherited is its parent's, who alone has to care.
    return !before.HasForked() && !child.HasForked();
  }));
  const OwnerProcess after;
  EXPECT_TRUE(before.HasForked());
  EXPECT_FALSE(after.HasForked());
}

}  // namespace
}  // namespace sheaf::platform
