// A node that is silent for long, or dead: what it read stays for as long as it must,
// comes back when the node does or is declared off, and what is lost with it has a name.

#include <signal.h>

#include <memory>
#include <string>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "platform/test_folder.h"
#include "sheaf/status.h"
#include "sheaf/store.h"
#include "testing/arrow_test.h"
#include "testing/eventually.h"
#include "testing/peer.h"
#include "tests/armed_daemon.h"
#include "tests/two_nodes.h"

namespace sheaf::testing {
namespace {

using LostNode = TwoNodes;

TEST(Peer, Serves) {
  if (!IsPeer()) GTEST_SKIP() << "started by other tests";
  ServePeer(AnswerAsHolder);
}

/// Policy strict: what the readers of a silent node hold stays, until it is back.
TEST_P(LostNode, ReadersOfAPausedNodeReadTheRightBytesAndItComesBack) {
  const auto source = MakeTable(50'000, 7);
  const auto other = MakeTable(50'000, 8);
  {
    ASSERT_OK_AND_ASSIGN(auto writer, cluster_->Connect(0));
    ASSERT_OK_AND_ASSIGN(auto reader, cluster_->Connect(1));
    ASSERT_OK(writer->Put("t", *source));
    ASSERT_OK_AND_ASSIGN(auto held, reader->Get("t"));
    ASSERT_OK(cluster_->SignalDaemon(1, SIGSTOP));
    AwaitState(writer, 1, "withdrawn");
    ASSERT_OK(reader->Get("t"));  // it has that
    ASSERT_OK(writer->Put("w", *source));
    EXPECT_TRUE(IsNodeLost(reader->Get("w").status()));  // F7
    ASSERT_OK(writer->Remove("w"));
    ASSERT_OK(writer->Remove("t"));
    // Memory is written anew as often as there is any: never what is held.
    for (int i = 0; i < 8; ++i) {
      ASSERT_OK_AND_ASSIGN(const auto unnamed, writer->Share(*other));
      ASSERT_OK(writer->Drop(unnamed.handle));
    }
    EXPECT_TRUE(held->Equals(*source));
    EXPECT_TRUE(writer->ForgetNode(0).IsInvalid());
    ASSERT_OK(cluster_->SignalDaemon(1, SIGCONT));
    AwaitState(writer, 1, "up");
    EXPECT_GE(writer->Nodes().ValueOrDie()[1].incarnation, 2U);
    EXPECT_TRUE(held->Equals(*source));
    ASSERT_OK(writer->Put("u", *source));
    ASSERT_OK_AND_ASSIGN(auto opened, reader->Get("u"));
    EXPECT_TRUE(opened->Equals(*source));
    ASSERT_OK(reader->Put("v", *source));
    ASSERT_OK(reader->Remove("u"));
    ASSERT_OK(reader->Remove("v"));
  }
  ExpectAllBack();
}

/// Model `member`, slotfirst: what the slot said before the home honours this node counts
/// for nothing.
TEST_P(LostNode, WhatIsRemovedBeforeAReaderIsHonouredIsGoneForIt) {
  ASSERT_OK_AND_ASSIGN(auto writer, cluster_->Connect(0));
  ASSERT_OK_AND_ASSIGN(auto reader, cluster_->Connect(1));
  ASSERT_OK(cluster_->SignalDaemon(1, SIGSTOP));
  AwaitState(writer, 1, "withdrawn");
  ASSERT_OK_AND_ASSIGN(const auto receipt, writer->Put("t", *MakeTable(1000, 7)));
  arrow::Status opened;
  std::thread opening([&] {  // waits a while to be honoured, each time
    do {
      opened = reader->Open(receipt.handle).status();
    } while (IsNodeLost(opened));
  });
  EXPECT_TRUE(Eventually([&] { return writer->Stat("t").ValueOrDie().leases == 1; }));
  EXPECT_OK(writer->Remove("t"));
  EXPECT_OK(cluster_->SignalDaemon(1, SIGCONT));
  opening.join();
  EXPECT_TRUE(IsStaleGeneration(opened)) << opened;
}

/// All processes of a node at once; then an operator who says that it is off.
TEST_P(LostNode, WhatADeadNodeReadComesBackWhenItIsForgotten) {
  ASSERT_OK_AND_ASSIGN(auto peer, Peer::Start({}));
  ASSERT_EQ(peer->Ask("connect1 " + cluster_->name()).ValueOrDie(), "OK");
  {
    ASSERT_OK_AND_ASSIGN(auto writer, cluster_->Connect(0));
    ASSERT_OK(writer->Put("t", *MakeTable(50'000, 7)));
    ASSERT_EQ(peer->Ask("hold t").ValueOrDie(), "OK");
    EXPECT_TRUE(writer->ForgetNode(1).IsInvalid());  // it lives
    ASSERT_OK(cluster_->SignalDaemon(1, SIGSTOP));
    peer->Kill();
    ASSERT_OK(cluster_->KillDaemon(1));
    ASSERT_OK(writer->Remove("t"));
    AwaitState(writer, 1, "withdrawn");
    ASSERT_OK(writer->ForgetNode(1));
    AwaitState(writer, 1, "off");
  }
  EXPECT_TRUE(Eventually([&] { return Free(0) == free_at_start_[0]; }));
  ASSERT_OK(cluster_->StartMissing());
  ASSERT_OK_AND_ASSIGN(auto writer, cluster_->Connect(0));
  AwaitState(writer, 1, "up");
  ASSERT_OK(cluster_->Connect(1));
  writer.reset();
  ExpectAllBack();
}

/// What a forgotten node's tables share with others is freed (F8). The loss has a name,
/// and nobody looks for another version for ever.
TEST_P(LostNode, ATableWhoseSharedBytesWereFreedSaysSo) {
  ASSERT_OK_AND_ASSIGN(auto peer, Peer::Start({}));
  ASSERT_EQ(peer->Ask("connect1 " + cluster_->name()).ValueOrDie(), "OK");
  {
    ASSERT_OK_AND_ASSIGN(auto writer, cluster_->Connect(0));
    ASSERT_OK(writer->Put("t", *MakeTable(50'000, 7)));
    ASSERT_EQ(peer->Ask("hold t").ValueOrDie(), "OK");
    ASSERT_EQ(peer->Ask("reshare same").ValueOrDie(), "OK");
    ASSERT_OK(writer->Remove("t"));
    ASSERT_OK(writer->Get("same"));
    ASSERT_OK(cluster_->SignalDaemon(1, SIGSTOP));
    peer->Kill();
    ASSERT_OK(cluster_->KillDaemon(1));
    AwaitState(writer, 1, "withdrawn");
    ASSERT_OK(writer->ForgetNode(1));
    EXPECT_TRUE(Eventually([&] { return Free(0) == free_at_start_[0]; }));
    ASSERT_OK(cluster_->StartMissing());
    AwaitState(writer, 1, "up");
    const arrow::Status got = writer->Get("same").status();
    EXPECT_TRUE(IsDamaged(got) && got.IsIOError()) << got;
    EXPECT_THAT(got.message(),
                ::testing::HasSubstr("table 'same': bytes that it shares"));
    EXPECT_TRUE(IsDamaged(writer->Stat("same").status()));
    EXPECT_EQ(writer->List().ValueOrDie().size(), 1U);
    ASSERT_OK(writer->Remove("same"));
  }
  ExpectAllBack();
}

/// Its version there is superseded, and stays until that node is back: until then the
/// next one cannot go, else whoever leads next would find the old one.
TEST_P(LostNode, ARemovedTableDoesNotComeBackFromANodeThatWasOff) {
  const auto old_rows = MakeTable(1000, 7);
  const auto new_rows = MakeTable(1000, 8);
  ASSERT_OK_AND_ASSIGN(auto writer, cluster_->Connect(0));
  {
    ASSERT_OK_AND_ASSIGN(const auto other, cluster_->Connect(1));
    ASSERT_OK(other->Put("t", *old_rows));
  }
  ASSERT_OK(cluster_->KillDaemon(1));
  AwaitState(writer, 1, "withdrawn");
  ASSERT_OK(writer->ForgetNode(1));
  AwaitState(writer, 1, "off");
  ASSERT_OK_AND_ASSIGN(const auto receipt,
                       writer->Put("t", *new_rows, {.replace = true}));
  EXPECT_EQ(receipt.version, 2U);
  const arrow::Status kept = writer->Remove("t");
  EXPECT_TRUE(IsNodeLost(kept)) << kept;
  EXPECT_THAT(kept.message(), ::testing::HasSubstr("node 1 has an older version of 't'"));
  ASSERT_OK(cluster_->KillDaemon(0));
  ASSERT_OK(cluster_->StartMissing());
  AwaitState(writer, 1, "up");
  ASSERT_OK_AND_ASSIGN(auto table, writer->Get("t"));
  EXPECT_TRUE(table->Equals(*new_rows));
  table.reset();
  EXPECT_TRUE(Eventually([&] { return writer->Remove("t").ok(); }));
  ASSERT_OK(cluster_->KillDaemon(0));
  ASSERT_OK(cluster_->StartMissing());
  AwaitState(writer, 0, "up");
  EXPECT_TRUE(writer->Get("t").status().IsKeyError());
  EXPECT_TRUE(writer->List().ValueOrDie().empty());
  writer.reset();
  ExpectAllBack();
}

/// The daemon dies in the middle of the line that names its life: what the node made
/// stays readable, and an operator can still say that it is off.
TEST_P(LostNode, ANodeThatDiedInTheMiddleOfItsLineIsReadAndForgotten) {
  ASSERT_OK_AND_ASSIGN(auto peer, Peer::Start({}));
  ASSERT_EQ(peer->Ask("connect1 " + cluster_->name()).ValueOrDie(), "OK");
  {
    ASSERT_OK_AND_ASSIGN(auto writer, cluster_->Connect(0));
    ASSERT_OK(writer->Put("t", *MakeTable(50'000, 7)));
    ASSERT_EQ(peer->Ask("hold t").ValueOrDie(), "OK");
    ASSERT_EQ(peer->Ask("put u").ValueOrDie(), "OK");
    ASSERT_OK_AND_ASSIGN(const auto held, writer->Get("u"));  // honoured, then
    ASSERT_OK(cluster_->SignalDaemon(1, SIGSTOP));
    peer->Kill();
    ASSERT_OK(cluster_->KillDaemon(1));
    const platform::TestFolder folder;
    ArmedDaemon next(cluster_->name(), 1, "daemon.line.busy=kill", folder.File("log"));
    EXPECT_TRUE(Eventually([&] { return next.Look() == ArmedDaemon::State::kEnded; }));
    ASSERT_OK(writer->Remove("t"));
    ASSERT_OK_AND_ASSIGN(const auto opened, writer->Get("u"));
    EXPECT_TRUE(opened->Equals(*held) && opened->Equals(*MakeTable(1000, 7)));
    EXPECT_EQ(writer->List().ValueOrDie().size(), 1U);
    AwaitState(writer, 1, "withdrawn");
    ASSERT_OK(writer->ForgetNode(1));
    EXPECT_EQ(writer->Nodes().ValueOrDie()[1].state, "off");
    ASSERT_OK(writer->ForgetNode(1));
    EXPECT_TRUE(Eventually([&] { return Free(0) == free_at_start_[0]; }));
    ASSERT_OK(cluster_->StartMissing());
    AwaitState(writer, 1, "up");
    ASSERT_OK(writer->Get("u"));
    ASSERT_OK(writer->Remove("u"));
  }
  ExpectAllBack();
}

INSTANTIATE_TEST_SUITE_P(Backends, LostNode, EveryBackend(), BackendName);

}  // namespace
}  // namespace sheaf::testing
