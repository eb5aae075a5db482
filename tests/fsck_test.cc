// What `sheaf fsck` says of memory that is well, and of memory that is not.

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/command_line.h"

namespace sheaf::testing {
namespace {

using ::testing::HasSubstr;

using Fsck = CommandLine;

TEST_F(Fsck, SaysWhatIsThereAndRefusesARunningNode) {
  Up("--nodes 2");
  ASSERT_EQ(Sheaf("put t " + WriteParquet("t.parquet", 1000)).code, 0);
  const Ran running = Sheaf("fsck");
  EXPECT_EQ(running.code, 1);
  EXPECT_THAT(running.out, HasSubstr("a daemon runs on it"));
  ASSERT_EQ(Sheaf("down --keep").code, 0);
  const Json report = SheafJson("fsck");
  ASSERT_EQ(report.size(), 2U);
  EXPECT_EQ(report[0]["objects"], 1);
  EXPECT_EQ(report[0]["sessions"], 0);
  EXPECT_GT(report[0]["used_bytes"], 1000);
  EXPECT_EQ(report[1]["objects"], 0);
  for (const Json& node : report) EXPECT_TRUE(node["problems"].empty()) << node;
  EXPECT_EQ(SheafJson("--node 1 fsck").size(), 1U);
  const Ran none = Sheaf("--node 5 fsck");
  EXPECT_EQ(none.code, 1);
  EXPECT_EQ(none.out,
            "sheaf: there is no node 5: cluster '" + cluster_ + "' has nodes 0 to 1\n");
  ASSERT_EQ(Sheaf("up").code, 0);
  EXPECT_EQ(Sheaf("verify t").code, 0);
}

TEST_F(Fsck, ADamagedSlotIsFoundAndRepaired) {
  Up();
  ASSERT_EQ(Sheaf("put t " + WriteParquet("t.parquet", 1000)).code, 0);
  ASSERT_EQ(Sheaf("put u " + WriteParquet("u.parquet", 10)).code, 0);
  ASSERT_EQ(Sheaf("down --keep").code, 0);
  Damage(0, Layout().slots + 16);
  // A look changes nothing, nor does a daemon: neither can tell which bytes are free.
  for (int i = 0; i < 2; ++i) {
    const Ran found = Sheaf("fsck");
    EXPECT_EQ(found.code, 1);
    EXPECT_THAT(found.out, HasSubstr("slot 0:0: the line"));
    EXPECT_THAT(found.out, HasSubstr("fsck --repair"));
    ASSERT_EQ(Sheaf("up").code, 0);
    EXPECT_EQ(Sheaf("verify u").code, 0);
    const Ran put = Sheaf("put v " + WriteParquet("v.parquet", 10));
    EXPECT_EQ(put.code, 1);
    EXPECT_THAT(put.out, HasSubstr("sheaf fsck"));
    ASSERT_EQ(Sheaf("down --keep").code, 0);
  }
  const Ran repaired = Sheaf("fsck --repair");
  EXPECT_EQ(repaired.code, 0) << repaired.out;
  EXPECT_THAT(repaired.out, HasSubstr("repaired"));
  EXPECT_EQ(Sheaf("fsck").code, 0);
  ASSERT_EQ(Sheaf("up").code, 0);
  EXPECT_EQ(SheafJson("ls").size(), 1U);
  EXPECT_EQ(Sheaf("verify u").code, 0);
  EXPECT_EQ(Sheaf("put t " + WriteParquet("t.parquet", 1000)).code, 0);
}

TEST_F(Fsck, ADamagedGrantLineIsFoundAndRepaired) {
  Up();
  ASSERT_EQ(Sheaf("put t " + WriteParquet("t.parquet", 1000)).code, 0);
  const Json before = SheafJson("nodes")[0];
  ASSERT_EQ(Sheaf("down --keep").code, 0);
  Damage(0, Layout().grants + 40);
  const Ran found = Sheaf("fsck");
  EXPECT_EQ(found.code, 1);
  EXPECT_THAT(found.out, HasSubstr("grant line 0:0 is damaged"));
  EXPECT_EQ(Sheaf("fsck --repair").code, 0);
  ASSERT_EQ(Sheaf("up").code, 0);
  EXPECT_EQ(SheafJson("nodes")[0]["free_bytes"], before["free_bytes"]);
  EXPECT_EQ(Sheaf("verify t").code, 0);
  EXPECT_EQ(Sheaf("put u " + WriteParquet("u.parquet", 1000)).code, 0);
}

TEST_F(Fsck, ADamagedRingEndIsFoundAndRepaired) {
  Up("--nodes 2 --messages rings");
  ASSERT_EQ(Sheaf("--node 1 put t " + WriteParquet("t.parquet", 1000)).code, 0);
  EXPECT_EQ(Sheaf("up --messages sockets").code, 1);
  ASSERT_EQ(Sheaf("down --keep").code, 0);
  ASSERT_EQ(Sheaf("fsck").code, 0);
  Damage(1, Layout().ring_ends + 16);  // what it says of node 0
  const Ran found = Sheaf("fsck");
  EXPECT_EQ(found.code, 1);
  EXPECT_THAT(found.out, HasSubstr("ring end 1:0 is damaged"));
  EXPECT_EQ(Sheaf("fsck --repair").code, 0);
  EXPECT_EQ(Sheaf("fsck").code, 0);
  ASSERT_EQ(Sheaf("up").code, 0);
  EXPECT_EQ(Sheaf("--node 1 put u " + WriteParquet("u.parquet", 10)).code, 0);
}

}  // namespace
}  // namespace sheaf::testing
