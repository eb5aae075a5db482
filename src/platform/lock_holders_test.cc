#include "platform/lock_holders.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <string>

#include <gtest/gtest.h>

#include "platform/file.h"
#include "platform/process.h"
#include "platform/test_folder.h"
#include "testing/arrow_test.h"

namespace sheaf::platform {
namespace {

TEST(LockHolders, AreThoseThatInheritedItAndNotThoseThatLook) {
  const TestFolder folder;
  const std::string path = folder.File("17.lock");
  const std::string other_path = folder.File("18.lock");
  int child = 0;
  int other_child = 0;
  {
    ASSERT_OK_AND_ASSIGN(const FileLock lock, FileLock::Acquire(path));
    EXPECT_TRUE(OpenLockHolders({path}).empty());  // but this process
    child = ::fork();
    if (child == 0) {
      for (;;) ::pause();
    }
  }
  {
    ASSERT_OK_AND_ASSIGN(const FileLock other, FileLock::Acquire(other_path));
    ASSERT_OK_AND_ASSIGN(const UniqueFd looks, OpenFile(path, Access::kRead));
    other_child = ::fork();
    if (other_child == 0) {
      for (;;) ::pause();
    }
  }
  EXPECT_TRUE(OpenLockHolders({folder.File("none.lock")}).empty());
  EXPECT_EQ(OpenLockHolders({path, other_path}).size(), 2U);
  const auto holders = OpenLockHolders({path});
  ASSERT_EQ(holders.size(), 1U);
  ASSERT_OK(SendSignal(holders.front(), SIGKILL));
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  ASSERT_OK_AND_ASSIGN(const bool is_held, FileLock::IsHeld(path));
  EXPECT_FALSE(is_held);
  ASSERT_EQ(::kill(other_child, SIGKILL), 0);
  ASSERT_EQ(::waitpid(other_child, nullptr, 0), other_child);
}

}  // namespace
}  // namespace sheaf::platform
