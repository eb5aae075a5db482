#include "base/fault_point.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>

#include <gtest/gtest.h>

#include "testing/arrow_test.h"

namespace sheaf {
namespace {

using ::testing::ExitedWithCode;
using ::testing::KilledBySignal;

class FaultPointTest : public ::testing::Test {
 protected:
  // Runs a new process for each: the environment is read once in each.
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
  void TearDown() override { ASSERT_OK(ArmFaults("")); }
};

void PassBefore() { PassFaultPoint("client.seal.before-request"); }
void PassAfter() { PassFaultPoint("client.seal.after-request"); }

TEST_F(FaultPointTest, WhatIsNotArmedIsPassed) {
  PassBefore();
  ASSERT_OK(ArmFaults("client.seal.after-request=kill"));
  PassBefore();
  ASSERT_OK(ArmFaults(""));
  PassAfter();
}

TEST_F(FaultPointTest, KillsAtTheNamedPoint) {
  ASSERT_OK(ArmFaults("client.seal.after-request=kill"));
  PassBefore();
  EXPECT_EXIT(PassAfter(), KilledBySignal(SIGKILL), "client.seal.after-request, pass 1");
}

TEST_F(FaultPointTest, KillsAtTheNamedPassOnly) {
  ASSERT_OK(ArmFaults("client.seal.before-request=kill@3"));
  PassBefore();
  PassBefore();
  EXPECT_EXIT(PassBefore(), KilledBySignal(SIGKILL), "before-request, pass 3");
  ASSERT_OK(ArmFaults("client.seal.before-request=delay:0@2"));
  for (int i = 0; i < 4; ++i) PassBefore();
  ASSERT_EQ(ArmedFaults().size(), 1U);
  EXPECT_EQ(ArmedFaults()[0].passes, 4U);
}

TEST_F(FaultPointTest, PausesUntilItIsToldToGoOn) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    if (!ArmFaults("client.seal.before-request=pause").ok()) ::_exit(1);
    PassBefore();
    PassBefore();  // the second pass goes through
    ::_exit(17);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, WUNTRACED), child);
  ASSERT_TRUE(WIFSTOPPED(status)) << status;
  EXPECT_EQ(WSTOPSIG(status), SIGSTOP);
  ASSERT_EQ(::kill(child, SIGCONT), 0);
  ASSERT_EQ(::waitpid(child, &status, WUNTRACED), child);
  ASSERT_TRUE(WIFEXITED(status)) << status;
  EXPECT_EQ(WEXITSTATUS(status), 17);
}

TEST_F(FaultPointTest, DelaysAtLeastThatLong) {
  ASSERT_OK(ArmFaults("client.seal.before-request=delay:20"));
  const auto begin = std::chrono::steady_clock::now();
  PassBefore();
  EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(20));
}

TEST_F(FaultPointTest, SeveralAreArmedAtOnce) {
  ASSERT_OK(ArmFaults(
      "client.seal.before-request=delay:0,client.seal.after-request=delay:0@9"));
  PassAfter();
  ASSERT_EQ(ArmedFaults().size(), 2U);
  EXPECT_EQ(ArmedFaults()[0].name, "client.seal.before-request");
  EXPECT_EQ(ArmedFaults()[0].passes, 0U);
  EXPECT_EQ(ArmedFaults()[1].passes, 1U);
}

TEST_F(FaultPointTest, AMalformedTextIsRefusedAndChangesNothing) {
  ASSERT_OK(ArmFaults("client.seal.before-request=delay:0@9"));
  for (const char* bad :
       {"client.seal.before-requst=kill", "client.seal.before-request",
        "client.seal.before-request=", "client.seal.before-request=die",
        "client.seal.before-request=kill@0", "client.seal.before-request=kill@",
        "client.seal.before-request=kill@2x", "client.seal.before-request=delay",
        "client.seal.before-request=delay:", "client.seal.before-request=delay:-1",
        "client.seal.before-request=delay:99999999999", "=kill", ",", "kill",
        "client.seal.before-request=kill,,", "client.seal.before-request = kill"}) {
    EXPECT_RAISES(Invalid, ArmFaults(bad)) << bad;
    ASSERT_EQ(ArmedFaults().size(), 1U) << bad;
  }
}

TEST_F(FaultPointTest, TheEnvironmentArms) {
  EXPECT_EXIT(
      {
        ::setenv("SHEAF_FAULT", "client.seal.after-request=kill@2", 1);
        PassBefore();
        PassAfter();
        std::fputs("passed once;", stderr);
        PassAfter();
      },
      KilledBySignal(SIGKILL), "passed once;sheaf: fault: killed");
}

TEST_F(FaultPointTest, AMalformedEnvironmentEndsTheProcessAtItsFirstPoint) {
  const auto pass_with = [](const char* value) {
    ::setenv("SHEAF_FAULT", value, 1);
    PassBefore();
  };
  EXPECT_EXIT(pass_with("client.seal.befor-request=kill"), ExitedWithCode(2),
              "SHEAF_FAULT: there is no fault point 'client.seal.befor-request'; "
              "`sheaf faults` lists them");
  EXPECT_EXIT(pass_with("client.seal.before-request=die"), ExitedWithCode(2),
              "there is no action 'die'");
}

TEST_F(FaultPointTest, AnEmptyEnvironmentArmsNothing) {
  EXPECT_EXIT(
      {
        ::setenv("SHEAF_FAULT", "", 1);
        PassBefore();
        std::exit(internal::faults_may_be_armed ? 1 : 0);
      },
      ExitedWithCode(0), "");
}

}  // namespace
}  // namespace sheaf
