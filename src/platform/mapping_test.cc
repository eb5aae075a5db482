#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "base/math.h"
#include "platform/file.h"
#include "platform/sanitizer.h"
#include "platform/test_folder.h"
#include "testing/arrow_test.h"

namespace sheaf::platform {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kBaseAddress = 0x200000000000;  // docs/protocol.md L13

constexpr bool kFixedAddressesWork = SHEAF_THREAD_SANITIZER == 0;

/// Runs `body` in a forked child: true if it returned true and no signal ended it.
template <typename Body>
bool SucceedsInChild(Body body) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(body() ? 0 : 1);
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/// The signal that ends a child which runs `body`, 0 if none does.
template <typename Body>
int SignalInChild(Body body) {
  const pid_t child = ::fork();
  if (child == 0) {
    struct sigaction by_default = {};  // Sanitizers would report and exit instead.
    by_default.sa_handler = SIG_DFL;
    ::sigaction(SIGSEGV, &by_default, nullptr);
    ::sigaction(SIGBUS, &by_default, nullptr);
    body();
    ::_exit(0);
  }
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

void Store(uint8_t* byte) { *const_cast<volatile uint8_t*>(byte) = 1; }

class MappingTest : public ::testing::Test {
 protected:
  UniqueFd NewFile(uint64_t size_bytes) {
    auto fd = CreateFile(folder_.File("segment"), size_bytes);
    EXPECT_TRUE(fd.ok()) << fd.status();
    return std::move(fd).ValueOrDie();
  }
  UniqueFd OpenAgain(Access access) {
    auto fd = OpenFile(folder_.File("segment"), access);
    EXPECT_TRUE(fd.ok()) << fd.status();
    return std::move(fd).ValueOrDie();
  }

 private:
  TestFolder folder_;
};

TEST_F(MappingTest, TwoMappingsShareTheFile) {
  const UniqueFd fd = NewFile(kMiB);
  ASSERT_OK_AND_ASSIGN(const Mapping writer,
                       Mapping::Map(fd.get(), kMiB, Access::kReadWrite));
  ASSERT_OK_AND_ASSIGN(const Mapping reader, Mapping::Map(fd.get(), kMiB, Access::kRead));
  writer.data()[kMiB - 1] = 42;
  EXPECT_EQ(reader.data()[kMiB - 1], 42);
  EXPECT_NE(reader.data(), writer.data());
}

TEST_F(MappingTest, TakesTheWantedAddressWhenItIsFree) {
  if (!kFixedAddressesWork) GTEST_SKIP() << "thread sanitizer: no fixed addresses";
  const UniqueFd fd = NewFile(kMiB);
  ASSERT_OK_AND_ASSIGN(const Mapping mapping,
                       Mapping::Map(fd.get(), kMiB, Access::kRead, kBaseAddress));
  EXPECT_EQ(reinterpret_cast<uint64_t>(mapping.data()), kBaseAddress);
}

TEST_F(MappingTest, GoesElsewhereWhenTheWantedAddressIsTaken) {
  const UniqueFd fd = NewFile(kMiB);
  ASSERT_OK_AND_ASSIGN(Mapping first, Mapping::Map(fd.get(), kMiB, Access::kReadWrite));
  first.data()[0] = 7;
  const auto taken = reinterpret_cast<uint64_t>(first.data());
  ASSERT_OK_AND_ASSIGN(const Mapping second,
                       Mapping::Map(fd.get(), kMiB, Access::kRead, taken));
  EXPECT_NE(second.data(), first.data());
  EXPECT_TRUE(IsAligned(reinterpret_cast<uint64_t>(second.data()), 2 * kMiB));
  EXPECT_EQ(first.data()[0], 7);
  EXPECT_EQ(second.data()[0], 7);
}

TEST_F(MappingTest, GoesElsewhereWhenTheWantedAddressIsImpossible) {
  const UniqueFd fd = NewFile(kMiB);
  const uint64_t beyond_user_space = uint64_t{1} << 62;
  ASSERT_OK_AND_ASSIGN(const Mapping mapping,
                       Mapping::Map(fd.get(), kMiB, Access::kRead, beyond_user_space));
  EXPECT_NE(mapping.data(), nullptr);
  ASSERT_OK_AND_ASSIGN(const Mapping unaligned,
                       Mapping::Map(fd.get(), kMiB, Access::kRead, kBaseAddress + 1));
  EXPECT_TRUE(IsAligned(reinterpret_cast<uint64_t>(unaligned.data()), 2 * kMiB));
}

/// Address space of this process in bytes.
uint64_t AddressSpaceBytes() {
  uint64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  return pages * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
}

TEST_F(MappingTest, AnywhereIsAlignedForHugePagesAndLeavesNoReservation) {
  const uint64_t size_bytes = 3 * kMiB + 5;
  const UniqueFd fd = NewFile(size_bytes);
  constexpr int kRounds = 64;
  const uint64_t before = AddressSpaceBytes();
  for (int i = 0; i < kRounds; ++i) {
    ASSERT_OK_AND_ASSIGN(const Mapping mapping,
                         Mapping::Map(fd.get(), size_bytes, Access::kRead));
    EXPECT_TRUE(IsAligned(reinterpret_cast<uint64_t>(mapping.data()), 2 * kMiB));
  }
  // Each round reserves 2 MiB too much; half of that in sum is far above any other
  // growth.
  EXPECT_LT(AddressSpaceBytes(), before + kRounds * kMiB);
}

TEST_F(MappingTest, RefusesNothingAndMoreThanTheFileHas) {
  const UniqueFd fd = NewFile(kMiB);
  EXPECT_TRUE(Mapping::Map(fd.get(), 0, Access::kRead).status().IsInvalid());
  EXPECT_TRUE(Mapping::Map(fd.get(), kMiB + 1, Access::kRead).status().IsInvalid());
  EXPECT_TRUE(Mapping::Map(-1, kMiB, Access::kRead).status().IsIOError());
}

TEST_F(MappingTest, MoveLeavesOneOwner) {
  const UniqueFd fd = NewFile(kMiB);
  ASSERT_OK_AND_ASSIGN(Mapping first, Mapping::Map(fd.get(), kMiB, Access::kReadWrite));
  uint8_t* data = first.data();
  Mapping second = std::move(first);
  EXPECT_EQ(first.data(), nullptr);  // NOLINT(bugprone-use-after-move): what is tested
  EXPECT_EQ(second.data(), data);
  Mapping& same = second;
  second = std::move(same);
  EXPECT_EQ(second.data(), data);
  second.data()[0] = 1;
  second = Mapping();
  EXPECT_EQ(SignalInChild([&] { Store(data); }), SIGSEGV);
}

TEST_F(MappingTest, ReadOnlyMappingCannotBeStoredTo) {
  const UniqueFd fd = NewFile(kMiB);
  ASSERT_OK_AND_ASSIGN(const Mapping mapping,
                       Mapping::Map(fd.get(), kMiB, Access::kRead));
  EXPECT_EQ(SignalInChild([&] { Store(mapping.data()); }), SIGSEGV);
}

/// docs/protocol.md P3: children must not dirty lines of their parent's grants.
TEST_F(MappingTest, ForkInheritsReadOnlyPartsAlone) {
  const UniqueFd fd = NewFile(4 * kMiB);
  ASSERT_OK_AND_ASSIGN(Mapping mapping,
                       Mapping::Map(fd.get(), 4 * kMiB, Access::kReadWrite));
  mapping.data()[0] = 11;
  mapping.data()[2 * kMiB] = 22;
  ASSERT_OK(mapping.Protect(0, 2 * kMiB, Access::kRead));
  EXPECT_TRUE(SucceedsInChild([&] { return mapping.data()[0] == 11; }));
  EXPECT_EQ(SignalInChild([&] { Store(mapping.data() + 2 * kMiB); }), SIGSEGV);
  ASSERT_OK(mapping.Protect(0, 2 * kMiB, Access::kReadWrite));
  EXPECT_EQ(SignalInChild([&] { Store(mapping.data()); }), SIGSEGV);
  mapping.data()[0] = 12;
}

/// What was not inherited is a hole in the child, and whatever the child maps may lie
/// there.
TEST_F(MappingTest, AForkedChildUnmapsNothingOfItsOwn) {
  const UniqueFd fd = NewFile(4 * kMiB);
  ASSERT_OK_AND_ASSIGN(Mapping whole,
                       Mapping::Map(fd.get(), 4 * kMiB, Access::kReadWrite));
  ASSERT_OK_AND_ASSIGN(Mapping part, Mapping::Map(fd.get(), 4 * kMiB, Access::kRead));
  ASSERT_OK(part.Protect(2 * kMiB, 2 * kMiB, Access::kReadWrite));
  uint8_t* const holes[] = {whole.data(), part.data() + 2 * kMiB};
  EXPECT_TRUE(SucceedsInChild([&] {
    for (uint8_t* hole : holes) {
      void* got = ::mmap(hole, kMiB, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
      if (got != hole) return false;
    }
    whole = Mapping();
    part = Mapping();
    for (uint8_t* hole : holes) Store(hole);
    return true;
  }));
  whole.data()[0] = 1;
}

TEST_F(MappingTest, AForkedChildUnmapsWhatItInheritedWhole) {
  const UniqueFd fd = NewFile(4 * kMiB);
  ASSERT_OK_AND_ASSIGN(Mapping mapping, Mapping::Map(fd.get(), 4 * kMiB, Access::kRead));
  uint8_t* const data = mapping.data();
  EXPECT_TRUE(SucceedsInChild([&] {
    mapping = Mapping();
    return ::msync(data, 4 * kMiB, MS_ASYNC) != 0 && errno == ENOMEM;
  }));
}

TEST_F(MappingTest, ProtectNeedsAFileOpenForIt) {
  NewFile(kMiB);
  const UniqueFd read_only = OpenAgain(Access::kRead);
  ASSERT_OK_AND_ASSIGN(Mapping mapping,
                       Mapping::Map(read_only.get(), kMiB, Access::kRead));
  EXPECT_TRUE(mapping.Protect(0, kMiB, Access::kReadWrite).IsIOError());
  const UniqueFd writable = OpenAgain(Access::kReadWrite);
  ASSERT_OK_AND_ASSIGN(Mapping upgradable,
                       Mapping::Map(writable.get(), kMiB, Access::kRead));
  ASSERT_OK(upgradable.Protect(0, kMiB, Access::kReadWrite));
  upgradable.data()[0] = 1;
}

TEST_F(MappingTest, RangesAreChecked) {
  const UniqueFd fd = NewFile(kMiB);
  ASSERT_OK_AND_ASSIGN(Mapping mapping, Mapping::Map(fd.get(), kMiB, Access::kReadWrite));
  EXPECT_TRUE(mapping.Protect(1, 4096, Access::kRead).IsInvalid());
  EXPECT_TRUE(mapping.Protect(0, kMiB + 1, Access::kRead).IsInvalid());
  EXPECT_TRUE(mapping.PopulateWrite(kMiB, 4096).IsInvalid());
  EXPECT_TRUE(mapping.PopulateWrite(0, ~uint64_t{0}).IsInvalid());
}

TEST_F(MappingTest, PopulateWriteKeepsContents) {
  const UniqueFd fd = NewFile(kMiB);
  ASSERT_OK_AND_ASSIGN(Mapping mapping, Mapping::Map(fd.get(), kMiB, Access::kReadWrite));
  mapping.data()[5000] = 77;
  ASSERT_OK(mapping.PopulateWrite(0, kMiB));
  EXPECT_EQ(mapping.data()[5000], 77);
}

/// Lets madvise(MADV_POPULATE_WRITE) fail in this process as Linux before 5.14 does.
bool ForbidPopulate() {
  constexpr unsigned kPopulateWrite = 23;
  std::array<struct sock_filter, 6> program = {{
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kPopulateWrite, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  }};
  const struct sock_fprog filter = {program.size(), program.data()};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

TEST_F(MappingTest, OldKernelSaysNotImplementedAndFallocateDoesIt) {
  const UniqueFd fd = NewFile(kMiB);
  EXPECT_TRUE(SucceedsInChild([&] {
    if (!ForbidPopulate()) return true;  // No seccomp here: nothing to see.
    auto mapping = Mapping::Map(fd.get(), kMiB, Access::kReadWrite);
    return mapping.ok() && mapping->PopulateWrite(0, kMiB).IsNotImplemented() &&
           AllocateFileRange(fd.get(), 0, kMiB).ok();
  }));
}

/// A tmpfs of a few MiB, so that tests can fill it. Only root may mount.
class TmpfsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const arrow::Status status = MountHugeTmpfs(folder_.path(), 8 * kMiB);
    if (!status.ok()) GTEST_SKIP() << status.message();
  }
  void TearDown() override { EXPECT_OK(Unmount(folder_.path())); }

  UniqueFd NewFile(const std::string& name) {
    auto fd = CreateFile(folder_.File(name), 64 * kMiB);
    EXPECT_OK(fd);
    return std::move(fd).ValueOrDie();
  }
  uint64_t free_bytes() const { return FileSystemFreeBytes(folder_.path()).ValueOr(0); }

 private:
  TestFolder folder_;
};

TEST_F(TmpfsTest, AllocateFileRangeFailsAndKeepsNothing) {
  const UniqueFd fd = NewFile("segment");
  ASSERT_OK(AllocateFileRange(fd.get(), 0, kMiB));
  const uint64_t free_before = free_bytes();
  EXPECT_TRUE(AllocateFileRange(fd.get(), 0, 16 * kMiB).IsOutOfMemory());
  EXPECT_EQ(free_bytes(), free_before);
}

TEST_F(TmpfsTest, AllocatedRangeNeverRaisesSigbusLater) {
  const UniqueFd fd = NewFile("segment");
  ASSERT_OK(AllocateFileRange(fd.get(), 0, 2 * kMiB));
  const UniqueFd other = NewFile("other");
  ASSERT_OK(AllocateFileRange(other.get(), 0, free_bytes()));
  ASSERT_EQ(free_bytes(), 0);
  EXPECT_TRUE(SucceedsInChild([&] {
    auto mapping = Mapping::Map(fd.get(), 64 * kMiB, Access::kReadWrite);
    if (!mapping.ok()) return false;
    std::memset(mapping->data(), 0x5a, 2 * kMiB);
    return true;
  }));
  EXPECT_EQ(SignalInChild([&] {
              auto mapping = Mapping::Map(fd.get(), 64 * kMiB, Access::kReadWrite);
              if (mapping.ok()) Store(mapping->data() + 2 * kMiB);
            }),
            SIGBUS)
      << "the test is void: storing to a hole of the full tmpfs worked";
}

TEST_F(TmpfsTest, PopulateWriteFailsAndWhatItTookCanBeFreed) {
  const UniqueFd fd = NewFile("segment");
  ASSERT_OK_AND_ASSIGN(Mapping mapping,
                       Mapping::Map(fd.get(), 64 * kMiB, Access::kReadWrite));
  const uint64_t free_before = free_bytes();
  const arrow::Status status = mapping.PopulateWrite(0, 16 * kMiB);
  if (status.IsNotImplemented()) GTEST_SKIP() << status.message();
  EXPECT_TRUE(status.IsOutOfMemory()) << status;
  ASSERT_OK(FreeFileRange(fd.get(), 0, 16 * kMiB));
  EXPECT_EQ(free_bytes(), free_before);
  ASSERT_OK(mapping.PopulateWrite(0, kMiB));
}

TEST_F(TmpfsTest, AdvisedMappingGetsHugePages) {
  const UniqueFd fd = NewFile("segment");
  ASSERT_OK_AND_ASSIGN(Mapping mapping,
                       Mapping::Map(fd.get(), 8 * kMiB, Access::kReadWrite));
  mapping.AdviseHugePages();
  ASSERT_OK(mapping.PopulateWrite(0, 8 * kMiB));
  ASSERT_OK_AND_ASSIGN(const uint64_t page_size, BackingPageSize(mapping.data() + kMiB));
  if (page_size < 2 * kMiB) GTEST_SKIP() << "no huge pages to be had here";
  ASSERT_OK_AND_ASSIGN(const Mapping reader,
                       Mapping::Map(fd.get(), 8 * kMiB, Access::kRead));
  EXPECT_EQ(reader.data()[kMiB], 0);
  ASSERT_OK_AND_ASSIGN(const uint64_t readers_page_size, BackingPageSize(reader.data()));
  EXPECT_EQ(readers_page_size, page_size);
}

TEST(FileSystemFreeBytes, OfATmpfsIsNoMoreThanTheHostHas) {
  const TestFolder folder;
  constexpr uint64_t kPetabyte = uint64_t{1} << 50;
  const arrow::Status status = MountHugeTmpfs(folder.path(), kPetabyte);
  if (!status.ok()) GTEST_SKIP() << status.message();
  const auto free_bytes = FileSystemFreeBytes(folder.path());
  const auto takes_memory = IsMemoryFileSystem(folder.path());
  ASSERT_OK(Unmount(folder.path()));
  ASSERT_OK(free_bytes);
  EXPECT_GT(*free_bytes, 0);
  EXPECT_LT(*free_bytes, kPetabyte);
  ASSERT_OK(takes_memory);
  EXPECT_TRUE(*takes_memory);
}

TEST(BackingPageSize, KnowsOrdinaryMemory) {
  int on_stack = 0;
  ASSERT_OK_AND_ASSIGN(const uint64_t page_size, BackingPageSize(&on_stack));
  EXPECT_EQ(page_size, static_cast<uint64_t>(::sysconf(_SC_PAGESIZE)));
  EXPECT_TRUE(BackingPageSize(nullptr).status().IsIOError());
}

TEST(MountPoint, MountsAndUnmounts) {
  const TestFolder folder;
  ASSERT_OK_AND_ASSIGN(const bool before, IsMountPoint(folder.path()));
  EXPECT_FALSE(before);
  ASSERT_OK(Unmount(folder.path()));
  const arrow::Status status = MountHugeTmpfs(folder.path(), kMiB);
  if (!status.ok()) {
    EXPECT_TRUE(status.IsIOError());
    GTEST_SKIP() << status.message();
  }
  ASSERT_OK_AND_ASSIGN(const bool mounted, IsMountPoint(folder.path()));
  EXPECT_TRUE(mounted);
  ASSERT_OK(Unmount(folder.path()));
  ASSERT_OK_AND_ASSIGN(const bool after, IsMountPoint(folder.path()));
  EXPECT_FALSE(after);
}

TEST(MountPoint, MissingFolderIsNoneAndUnmountsFine) {
  const TestFolder folder;
  ASSERT_OK_AND_ASSIGN(const bool mounted, IsMountPoint(folder.File("none")));
  EXPECT_FALSE(mounted);
  ASSERT_OK(Unmount(folder.File("none")));
  EXPECT_TRUE(MountHugeTmpfs(folder.File("none"), kMiB).IsIOError());
}

}  // namespace
}  // namespace sheaf::platform
