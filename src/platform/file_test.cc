#include "platform/file.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <utility>

#include <arrow/status.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "platform/test_folder.h"
#include "testing/arrow_test.h"

namespace sheaf::platform {
namespace {

using ::testing::HasSubstr;

bool IsOpen(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

mode_t ModeOf(const std::string& path) {
  struct stat status = {};
  EXPECT_EQ(::stat(path.c_str(), &status), 0);
  return status.st_mode & 07777;
}

void WriteText(const std::string& path, const std::string& text) {
  std::ofstream(path) << text;
}

/// Runs `body` in a forked child; its result is the child's exit status.
template <typename Body>
pid_t InChild(Body body) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(body());
  return child;
}

int ExitStatusOf(pid_t child) {
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(UniqueFd, MoveLeavesOneOwner) {
  UniqueFd fd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const int number = fd.get();
  UniqueFd other = std::move(fd);
  EXPECT_FALSE(fd.valid());  // NOLINT(bugprone-use-after-move): what is tested
  EXPECT_EQ(other.get(), number);
  other = UniqueFd();
  EXPECT_FALSE(IsOpen(number));
}

TEST(UniqueFd, SelfMoveKeepsIt) {
  UniqueFd fd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const int number = fd.get();
  UniqueFd& same = fd;
  fd = std::move(same);
  EXPECT_EQ(fd.get(), number);
  EXPECT_TRUE(IsOpen(number));
}

TEST(UniqueFd, ReleaseGivesItAway) {
  UniqueFd fd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const UniqueFd other(fd.Release());
  EXPECT_FALSE(fd.valid());
  EXPECT_TRUE(IsOpen(other.get()));
}

TEST(OsError, NamesWhatPathAndCause) {
  const arrow::Status status = OsError("cannot open", "/some/where", EMFILE);
  EXPECT_TRUE(status.IsIOError());
  EXPECT_THAT(status.message(),
              HasSubstr("cannot open /some/where: Too many open files"));
}

TEST(OpenFile, MissingIsKeyError) {
  const TestFolder folder;
  EXPECT_TRUE(OpenFile(folder.File("none"), Access::kRead).status().IsKeyError());
}

TEST(OpenFile, RefusesSymbolicLinks) {
  const TestFolder folder;
  WriteText(folder.File("real"), "x");
  ASSERT_EQ(::symlink(folder.File("real").c_str(), folder.File("link").c_str()), 0);
  const arrow::Status status = OpenFile(folder.File("link"), Access::kRead).status();
  EXPECT_TRUE(status.IsIOError());
  EXPECT_THAT(status.message(), HasSubstr("symbolic link"));
}

TEST(OpenFile, DeniedNamesOwnerAndMode) {
  if (::geteuid() == 0) GTEST_SKIP() << "root is denied nothing";
  const TestFolder folder;
  WriteText(folder.File("closed"), "x");
  ASSERT_EQ(::chmod(folder.File("closed").c_str(), 0), 0);
  const arrow::Status status = OpenFile(folder.File("closed"), Access::kRead).status();
  EXPECT_TRUE(status.IsIOError());
  EXPECT_THAT(status.message(), HasSubstr("mode 0000"));
}

TEST(OpenFile, DeniedToAnotherUserNamesOwnerAndMode) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can become another user";
  const TestFolder folder;
  ASSERT_EQ(::chmod(folder.path().c_str(), 0755), 0);
  ASSERT_OK(CreateFile(folder.File("segment"), 4096).status());
  const pid_t child = InChild([&] {
    constexpr uid_t kNobody = 65534;
    if (::setuid(kNobody) != 0) return 1;
    const arrow::Status status = OpenFile(folder.File("segment"), Access::kRead).status();
    return status.message().find("owner uid 0, mode 0600, we are uid 65534") ==
                   std::string::npos
               ? 2
               : 0;
  });
  EXPECT_EQ(ExitStatusOf(child), 0);
}

TEST(CreateFile, IsPrivateSizedAndNew) {
  const TestFolder folder;
  ASSERT_OK_AND_ASSIGN(const UniqueFd fd, CreateFile(folder.File("segment"), 12345));
  ASSERT_OK_AND_ASSIGN(const uint64_t size, FileSize(fd.get()));
  EXPECT_EQ(size, 12345);
  EXPECT_EQ(ModeOf(folder.File("segment")), 0600);
  EXPECT_TRUE(CreateFile(folder.File("segment"), 1).status().IsAlreadyExists());
}

TEST(CreateFile, AllocatesNothing) {
  const TestFolder folder;
  ASSERT_OK_AND_ASSIGN(const UniqueFd fd,
                       CreateFile(folder.File("f"), uint64_t{1} << 40));
  struct stat status = {};
  ASSERT_EQ(::fstat(fd.get(), &status), 0);
  EXPECT_EQ(status.st_blocks, 0);
}

TEST(FileRange, AllocatesAndFrees) {
  const TestFolder folder;
  ASSERT_OK_AND_ASSIGN(const UniqueFd fd, CreateFile(folder.File("f"), 1 << 20));
  ASSERT_OK(AllocateFileRange(fd.get(), 0, 0));
  ASSERT_OK(AllocateFileRange(fd.get(), 1 << 18, 1 << 18));
  struct stat status = {};
  ASSERT_EQ(::fstat(fd.get(), &status), 0);
  EXPECT_GE(status.st_blocks * 512, 1 << 18);
  ASSERT_OK(FreeFileRange(fd.get(), 0, 1 << 20));
  ASSERT_EQ(::fstat(fd.get(), &status), 0);
  EXPECT_EQ(status.st_blocks, 0);
}

TEST(FileRange, WhatHasMemoryIsNotMissing) {
  const TestFolder folder;
  ASSERT_OK_AND_ASSIGN(const UniqueFd fd, CreateFile(folder.File("f"), 1 << 20));
  EXPECT_EQ(MissingFileBytes(fd.get(), 0, 1 << 20).ValueOrDie(), 1 << 20);
  const std::string bytes(1 << 18, 'x');
  ASSERT_EQ(::pwrite(fd.get(), bytes.data(), bytes.size(), 1 << 18), 1 << 18);
  EXPECT_EQ(MissingFileBytes(fd.get(), 0, 1 << 20).ValueOrDie(), 3 << 18);
  EXPECT_EQ(MissingFileBytes(fd.get(), 1 << 18, 1 << 18).ValueOrDie(), 0);
  EXPECT_EQ(MissingFileBytes(fd.get(), 1 << 17, 1 << 18).ValueOrDie(), 1 << 17);
  ASSERT_OK(AllocateFileRange(fd.get(), 0, 1 << 20));
  EXPECT_EQ(MissingFileBytes(fd.get(), 0, 1 << 20).ValueOrDie(), 0);
}

TEST(FileSystemFreeBytes, KnowsFoldersAndMissingOnes) {
  const TestFolder folder;
  ASSERT_OK_AND_ASSIGN(const uint64_t free_bytes, FileSystemFreeBytes(folder.path()));
  EXPECT_GT(free_bytes, 0);
  EXPECT_TRUE(FileSystemFreeBytes(folder.File("none")).status().IsIOError());
}

TEST(RemoveOwnFiles, WhatOthersPutThereStays) {
  const TestFolder folder;
  const auto is_own = [](std::string_view name) { return name.starts_with("own"); };
  const std::string path = folder.File("f");
  ASSERT_OK(MakePrivateFolder(path + "/own-folder-of-another"));
  ASSERT_OK(CreateFile(path + "/own", 1));
  ASSERT_OK(CreateFile(path + "/other", 1));
  EXPECT_RAISES(IOError, RemoveOwnFiles(path, is_own));  // A folder is no file.
  ASSERT_OK(RemoveEmptyFolder(path + "/own-folder-of-another"));
  ASSERT_OK(RemoveOwnFiles(path, is_own));
  EXPECT_FALSE(std::filesystem::exists(path + "/own"));
  EXPECT_TRUE(std::filesystem::exists(path + "/other"));
  ASSERT_OK(RemoveEmptyFolder(path));
  EXPECT_TRUE(std::filesystem::exists(path));
  ASSERT_OK(RemoveFile(path + "/other"));
  ASSERT_OK(RemoveFile(path + "/other"));
  ASSERT_OK(RemoveOwnFiles(path, is_own));
  EXPECT_FALSE(std::filesystem::exists(path));
  ASSERT_OK(RemoveOwnFiles(path, is_own));
}

TEST(CheckPrivateFolder, NamesWhatIsWrong) {
  const TestFolder folder;
  EXPECT_RAISES(KeyError, CheckPrivateFolder(folder.File("none")));
  ASSERT_OK(CheckPrivateFolder(folder.path()));
  ASSERT_EQ(::chmod(folder.path().c_str(), 0777), 0);
  EXPECT_RAISES(IOError, CheckPrivateFolder(folder.path()));
}

TEST(MakePrivateFolder, CreatesParentsAndAcceptsItsOwn) {
  const TestFolder folder;
  const std::string path = folder.File("a/b/c");
  ASSERT_OK(MakePrivateFolder(path));
  EXPECT_EQ(ModeOf(path), 0700);
  EXPECT_EQ(ModeOf(folder.File("a")), 0700);
  ASSERT_OK(MakePrivateFolder(path));
  ASSERT_OK(MakePrivateFolder(path + "/"));
}

TEST(MakePrivateFolder, RefusesWhatOthersMayWriteAndWhatIsNoFolder) {
  const TestFolder folder;
  ASSERT_OK(MakePrivateFolder(folder.File("open")));
  ASSERT_EQ(::chmod(folder.File("open").c_str(), 0770), 0);
  const arrow::Status status = MakePrivateFolder(folder.File("open"));
  EXPECT_TRUE(status.IsIOError());
  EXPECT_THAT(status.message(), HasSubstr("mode 0770"));
  WriteText(folder.File("file"), "x");
  EXPECT_TRUE(MakePrivateFolder(folder.File("file")).IsIOError());
  ASSERT_OK(MakePrivateFolder(folder.File("real")));
  ASSERT_EQ(::symlink(folder.File("real").c_str(), folder.File("link").c_str()), 0);
  EXPECT_TRUE(MakePrivateFolder(folder.File("link")).IsIOError());
}

TEST(MakePrivateFolder, RefusesAnotherUsersFolder) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give a folder to another user";
  const TestFolder folder;
  ASSERT_OK(MakePrivateFolder(folder.File("theirs")));
  ASSERT_EQ(::chown(folder.File("theirs").c_str(), 65534, 65534), 0);
  EXPECT_TRUE(MakePrivateFolder(folder.File("theirs")).IsIOError());
}

TEST(CheckOwnFile, RefusesAnotherUsersFile) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give a file to another user";
  const TestFolder folder;
  const std::string path = folder.File("f");
  ASSERT_OK_AND_ASSIGN(const UniqueFd fd, CreateFile(path, 1));
  EXPECT_OK(CheckOwnFile(fd.get(), path));
  ASSERT_EQ(::chown(path.c_str(), 12345, 0), 0);
  const auto status = CheckOwnFile(fd.get(), path);
  ASSERT_RAISES(IOError, status);
  EXPECT_NE(status.message().find("owner uid 12345"), std::string::npos) << status;
}

TEST(RemoveAll, RemovesTreesButNotWhatLinksPointTo) {
  const TestFolder folder;
  ASSERT_OK(MakePrivateFolder(folder.File("tree/branch")));
  WriteText(folder.File("outside"), "x");
  ASSERT_EQ(
      ::symlink(folder.File("outside").c_str(), folder.File("tree/branch/link").c_str()),
      0);
  ASSERT_OK(RemoveAll(folder.File("tree")));
  EXPECT_NE(::access(folder.File("tree").c_str(), F_OK), 0);
  EXPECT_EQ(::access(folder.File("outside").c_str(), F_OK), 0);
  ASSERT_OK(RemoveAll(folder.File("tree")));
}

TEST(FileLock, SecondOwnerIsRefusedAndToldWhoHoldsIt) {
  const TestFolder folder;
  const std::string path = folder.File("lock");
  {
    ASSERT_OK_AND_ASSIGN(const FileLock lock, FileLock::Acquire(path));
    EXPECT_EQ(ModeOf(path), 0600);
    const arrow::Status status = FileLock::Acquire(path).status();
    EXPECT_TRUE(status.IsAlreadyExists());
    EXPECT_THAT(status.message(), HasSubstr("process " + std::to_string(::getpid())));
    ASSERT_OK_AND_ASSIGN(const bool held, FileLock::IsHeld(path));
    EXPECT_TRUE(held);
  }
  ASSERT_OK_AND_ASSIGN(const bool held, FileLock::IsHeld(path));
  EXPECT_FALSE(held);
  ASSERT_OK(FileLock::Acquire(path).status());
}

TEST(FileLock, WhoIsRefusedReadsTheOwnersNote) {
  const TestFolder folder;
  const std::string path = folder.File("lock");
  ASSERT_OK_AND_ASSIGN(const FileLock lock, FileLock::Acquire(path, "ask nicely"));
  const std::string holder = "process " + std::to_string(::getpid()) + ", ask nicely";
  EXPECT_NE(FileLock::Acquire(path).status().message().find(holder), std::string::npos);
  ASSERT_OK_AND_ASSIGN(const std::string found, FileLock::HolderOf(path));
  EXPECT_EQ(found, holder);
}

TEST(FileLock, RemovedByItsOwnerIsFree) {
  const TestFolder folder;
  const std::string path = folder.File("lock");
  ASSERT_OK_AND_ASSIGN(const FileLock lock, FileLock::Acquire(path));
  ASSERT_OK(lock.Remove());
  EXPECT_FALSE(std::filesystem::exists(path));
  ASSERT_OK_AND_ASSIGN(const FileLock next, FileLock::Acquire(path));
  EXPECT_TRUE(std::filesystem::exists(path));
}

TEST(FileLock, NoFileIsNotHeld) {
  const TestFolder folder;
  ASSERT_OK_AND_ASSIGN(const bool held, FileLock::IsHeld(folder.File("none")));
  EXPECT_FALSE(held);
}

TEST(FileLock, AskingDoesNotCreateTheFile) {
  const TestFolder folder;
  ASSERT_OK(FileLock::IsHeld(folder.File("none")).status());
  EXPECT_NE(::access(folder.File("none").c_str(), F_OK), 0);
}

TEST(FileLock, GarbageInsteadOfAPidIsNoError) {
  const TestFolder folder;
  ASSERT_OK_AND_ASSIGN(const FileLock lock, FileLock::Acquire(folder.File("lock")));
  WriteText(folder.File("lock"), "no number at all, and long");
  const arrow::Status status = FileLock::Acquire(folder.File("lock")).status();
  EXPECT_TRUE(status.IsAlreadyExists());
  EXPECT_THAT(status.message(), HasSubstr("another process"));
}

/// docs/protocol.md D1: a session is dead only when its forked children, too, are gone.
TEST(FileLock, ForkedChildKeepsItAfterTheParentLetGo) {
  const TestFolder folder;
  const std::string path = folder.File("lock");
  std::array<int, 2> ends = {-1, -1};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  const UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  pid_t child = -1;
  {
    ASSERT_OK_AND_ASSIGN(const FileLock lock, FileLock::Acquire(path));
    child = InChild([&] {
      write_end = UniqueFd();
      char byte = 0;
      return static_cast<int>(
          ::read(read_end.get(), &byte, 1));  // Until the parent says so.
    });
  }
  ASSERT_OK_AND_ASSIGN(const bool held, FileLock::IsHeld(path));
  EXPECT_TRUE(held);
  write_end = UniqueFd();
  EXPECT_EQ(ExitStatusOf(child), 0);
  ASSERT_OK_AND_ASSIGN(const bool held_after, FileLock::IsHeld(path));
  EXPECT_FALSE(held_after);
}

TEST(FileLock, RemovedFileDoesNotBlockANewOwner) {
  const TestFolder folder;
  ASSERT_OK_AND_ASSIGN(const FileLock old_lock, FileLock::Acquire(folder.File("lock")));
  ASSERT_OK(RemoveAll(folder.File("lock")));
  ASSERT_OK(FileLock::Acquire(folder.File("lock")).status());
}

}  // namespace
}  // namespace sheaf::platform
