#include "platform/bus_error.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include <arrow/status.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "platform/file.h"
#include "platform/test_folder.h"
#include "sheaf/status.h"
#include "testing/arrow_test.h"

namespace sheaf::platform {
namespace {

using ::testing::ExitedWithCode;
using ::testing::HasSubstr;

constexpr size_t kPageBytes = 4096;
constexpr size_t kSizeBytes = 4 * kPageBytes;
constexpr size_t kLeftBytes = kPageBytes + 100;  // The rest of that page reads as zeros.

constexpr int kOwnHandlerExit = 42;
void ExitFromHandler(int /*signal_number*/) { ::_exit(kOwnHandlerExit); }

volatile sig_atomic_t handled = 0;
void CountInHandler(int /*signal_number*/, siginfo_t* /*info*/, void* /*context*/) {
  handled = handled + 1;
}

/// A file of four pages without a name, mapped, and then cut down to one and a bit.
Mapping MapCut() {
  const UniqueFd fd(::memfd_create("cut", 0));
  EXPECT_EQ(::ftruncate(fd.get(), kSizeBytes), 0);
  Mapping mapping = Mapping::Map(fd.get(), kSizeBytes, Access::kReadWrite).ValueOrDie();
  std::memset(mapping.data(), 7, kSizeBytes);
  EXPECT_EQ(::ftruncate(fd.get(), kLeftBytes), 0);
  return mapping;
}

class BusError : public ::testing::Test {
 protected:
  static uint8_t Load(const uint8_t* byte) {
    return *static_cast<const volatile uint8_t*>(byte);
  }

  MemoryRange All() const { return {mapping_.data(), kSizeBytes}; }
  const uint8_t* Gone() const { return mapping_.data() + 3 * kPageBytes; }

  Mapping mapping_ = MapCut();
};

/// Each death in a process in which there was no guard before.
class BusErrorDeath : public BusError {
 protected:
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

TEST_F(BusError, BecomesAStatusThatSaysWhere) {
  std::array<uint8_t, kSizeBytes> copy{};
  const MemoryRange all = All();
  const arrow::Status status = GuardBusError(
      {all}, [&] { std::memcpy(copy.data(), all.address, all.size_bytes); });
  ASSERT_RAISES(IOError, status);
  EXPECT_TRUE(IsDamaged(status));
  EXPECT_THAT(status.message(), HasSubstr("byte 8192 of 16384"));
}

TEST_F(BusError, MemoryThatIsThereCanBeRead) {
  uint8_t first = 0;
  EXPECT_OK(GuardBusError({All()}, [&] { first = Load(mapping_.data()); }));
  EXPECT_EQ(first, 7);
  EXPECT_OK(CheckReadable({mapping_.data(), 2 * kPageBytes}, 64));
  EXPECT_OK(CheckReadable({mapping_.data(), 0}, 64));
}

TEST_F(BusError, StoresFailToo) {
  EXPECT_RAISES(IOError, GuardBusError({All()}, [&] {
                  std::memset(mapping_.data(), 1, kSizeBytes);
                }));
}

TEST_F(BusError, LooksAtTheLastByteWhateverTheStep) {
  EXPECT_RAISES(IOError, CheckReadable({mapping_.data(), 2 * kPageBytes + 1}, 1 << 20));
  EXPECT_RAISES(IOError,
                CheckReadable({mapping_.data() + kPageBytes, 3 * kPageBytes}, 1 << 20));
}

TEST_F(BusError, TheThreadIsAsBefore) {
  for (int i = 0; i < 100; ++i) ASSERT_RAISES(IOError, CheckReadable(All(), 64));
  sigset_t blocked;
  ASSERT_EQ(::pthread_sigmask(SIG_SETMASK, nullptr, &blocked), 0);
  EXPECT_EQ(sigismember(&blocked, SIGBUS), 0);
}

TEST_F(BusError, AGuardAnswersForItsOwnMemoryOnly) {
  const Mapping other = MapCut();
  const MemoryRange inner{other.data(), kSizeBytes};
  bool inner_returned = false;
  arrow::Status outer = GuardBusError({All()}, [&] {
    (void)CheckReadable(inner, 64);  // Fails by itself, and is over.
    (void)GuardBusError({inner}, [&] { Load(Gone()); });
    inner_returned = true;
  });
  EXPECT_RAISES(IOError, outer);
  EXPECT_FALSE(inner_returned);
  EXPECT_THAT(outer.message(), HasSubstr("byte 12288 of 16384"));
  // Nothing of the inner guard is left.
  EXPECT_RAISES(IOError, CheckReadable(inner, 64));
}

TEST_F(BusError, EveryThreadHasItsOwnGuards) {
  std::array<std::thread, 4> threads;
  for (std::thread& thread : threads) {
    thread = std::thread([&] {
      for (int i = 0; i < 1000; ++i) ASSERT_RAISES(IOError, CheckReadable(All(), 4096));
    });
  }
  for (std::thread& thread : threads) thread.join();
}

/// As the kernel tells of memory that broke: by the page, wherever the load was.
TEST_F(BusError, BrokenMemoryIsToldOfByThePage) {
  const auto break_page = [&] {
    siginfo_t info = {};
    info.si_signo = SIGBUS;
    info.si_code = BUS_MCEERR_AR;
    info.si_addr = mapping_.data();
    info.si_addr_lsb = 12;
    ::syscall(SYS_rt_tgsigqueueinfo, ::getpid(), ::gettid(), SIGBUS, &info);
  };
  const arrow::Status status = GuardBusError({{mapping_.data() + 100, 200}}, break_page);
  ASSERT_RAISES(IOError, status);
  EXPECT_THAT(status.message(), HasSubstr("byte 0 of 200"));
}

TEST_F(BusErrorDeath, OutsideOfAGuardTheProgramsOwnHandlerIsCalled) {
  EXPECT_EXIT(
      {
        ::signal(SIGBUS, ExitFromHandler);
        (void)CheckReadable(All(), 64);
        Load(Gone());
      },
      ExitedWithCode(kOwnHandlerExit), "");
  // Nor is memory guarded that nobody spoke of.
  EXPECT_EXIT(
      {
        ::signal(SIGBUS, ExitFromHandler);
        (void)GuardBusError({{mapping_.data(), kPageBytes}}, [&] { Load(Gone()); });
      },
      ExitedWithCode(kOwnHandlerExit), "");
}

TEST_F(BusErrorDeath, AGuardIsForItsThreadAlone) {
  EXPECT_EXIT(
      {
        ::signal(SIGBUS, ExitFromHandler);
        (void)GuardBusError({All()}, [&] { std::thread([&] { Load(Gone()); }).join(); });
      },
      ExitedWithCode(kOwnHandlerExit), "");
}

TEST_F(BusErrorDeath, ASignalThatWasSentIsNoFault) {
  EXPECT_EXIT(
      {
        struct sigaction own = {};
        own.sa_sigaction = CountInHandler;
        own.sa_flags = SA_SIGINFO;
        ::sigaction(SIGBUS, &own, nullptr);
        const arrow::Status status = GuardBusError({All()}, [] { ::raise(SIGBUS); });
        ::_exit(status.ok() ? handled : 99);
      },
      ExitedWithCode(1), "");
  EXPECT_EXIT(
      {
        ::signal(SIGBUS, SIG_IGN);
        const arrow::Status status = GuardBusError({All()}, [] { ::raise(SIGBUS); });
        ::_exit(status.ok() ? 3 : 99);
      },
      ExitedWithCode(3), "");
}

TEST_F(BusErrorDeath, WithoutAHandlerTheProcessDiesAsEver) {
  for (const auto disposition : {SIG_DFL, SIG_IGN}) {
    EXPECT_EXIT(
        {
          ::signal(SIGBUS, disposition);
          (void)CheckReadable(All(), 64);
          Load(Gone());
        },
        ::testing::KilledBySignal(SIGBUS), "");
  }
  EXPECT_EXIT(
      {
        ::signal(SIGBUS, SIG_DFL);
        (void)CheckReadable(All(), 64);
        ::raise(SIGBUS);
      },
      ::testing::KilledBySignal(SIGBUS), "");
}

TEST_F(BusError, AProgramCanEndWithAMessageAndWithoutADraft) {
  GTEST_FLAG_SET(death_test_style, "fast");  // A child that knows the folder.
  const TestFolder folder;
  const std::string draft = folder.File("draft");
  std::ofstream(draft) << "half";
  EXPECT_EXIT(
      {
        mapping_ = MapCut();  // What can be written is not inherited.
        const BusErrorExit exit("memory is gone\n", 5, draft);
        (void)CheckReadable(All(), 64);  // Guards come first.
        Load(Gone());
      },
      ExitedWithCode(5), "memory is gone");
  EXPECT_FALSE(std::filesystem::exists(draft));
}

TEST_F(BusErrorDeath, AProgramThatWentOnEndsAsItsHandlerSays) {
  EXPECT_EXIT(
      {
        ::signal(SIGBUS, ExitFromHandler);
        {
          const BusErrorExit over("never said", 5);
        }
        Load(Gone());
      },
      ExitedWithCode(kOwnHandlerExit), "");
}

}  // namespace
}  // namespace sheaf::platform
