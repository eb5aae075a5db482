#include "platform/unix_socket.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <numeric>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "platform/file.h"
#include "platform/test_folder.h"
#include "sheaf/status.h"
#include "testing/arrow_test.h"

namespace sheaf::platform {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

size_t OpenDescriptorCount() {
  const std::filesystem::directory_iterator begin("/proc/self/fd");
  return static_cast<size_t>(std::distance(begin, std::filesystem::directory_iterator()));
}

class FrameTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::array<int, 2> ends = {-1, -1};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
    sender_ = UniqueFd(ends[0]);
    receiver_ = UniqueFd(ends[1]);
  }
  void SendRaw(const void* data, size_t size_bytes) {
    ASSERT_EQ(::send(sender_.get(), data, size_bytes, MSG_NOSIGNAL),
              static_cast<ssize_t>(size_bytes));
  }
  void SendHeader(const FrameHeader& header) { SendRaw(&header, sizeof(header)); }

  UniqueFd sender_;
  UniqueFd receiver_;
};

TEST_F(FrameTest, ArriveWholeAndInOrder) {
  const std::vector<uint8_t> first = {1, 2, 3};
  const std::vector<uint8_t> second = {4};
  ASSERT_OK(SendFrame(sender_.get(), first));
  ASSERT_OK(SendFrame(sender_.get(), {}));
  ASSERT_OK(SendFrame(sender_.get(), second));
  ASSERT_OK_AND_ASSIGN(const Frame one, ReceiveFrame(receiver_.get()));
  EXPECT_THAT(one.payload, ElementsAre(1, 2, 3));
  EXPECT_THAT(one.fds, IsEmpty());
  ASSERT_OK_AND_ASSIGN(const Frame two, ReceiveFrame(receiver_.get(), milliseconds(0)));
  EXPECT_THAT(two.payload, IsEmpty());
  ASSERT_OK_AND_ASSIGN(const Frame three, ReceiveFrame(receiver_.get()));
  EXPECT_THAT(three.payload, ElementsAre(4));
}

TEST_F(FrameTest, LargerThanTheSocketsBufferArriveWhole) {
  std::vector<uint8_t> payload(8 << 20);
  std::iota(payload.begin(), payload.end(), uint8_t{0});
  std::thread sending([&] { EXPECT_OK(SendFrame(sender_.get(), payload)); });
  auto frame = ReceiveFrame(receiver_.get());
  sending.join();
  ASSERT_OK(frame.status());
  EXPECT_EQ(frame->payload, payload);
}

TEST_F(FrameTest, NonBlockingSocketsWorkToo) {
  ASSERT_EQ(::fcntl(sender_.get(), F_SETFL, O_NONBLOCK), 0);
  ASSERT_EQ(::fcntl(receiver_.get(), F_SETFL, O_NONBLOCK), 0);
  const std::vector<uint8_t> payload(4 << 20, 9);
  std::thread sending([&] { EXPECT_OK(SendFrame(sender_.get(), payload)); });
  auto frame = ReceiveFrame(receiver_.get());
  sending.join();
  ASSERT_OK(frame.status());
  EXPECT_EQ(frame->payload, payload);
}

TEST_F(FrameTest, DescriptorsTravelWithTheirFrame) {
  const TestFolder folder;
  ASSERT_OK_AND_ASSIGN(const UniqueFd file, CreateFile(folder.File("f"), 12345));
  const std::array<int, 2> fds = {file.get(), sender_.get()};
  const std::vector<uint8_t> payload = {7};
  ASSERT_OK(SendFrame(sender_.get(), payload));
  ASSERT_OK(SendFrame(sender_.get(), payload, fds));
  ASSERT_OK_AND_ASSIGN(const Frame without, ReceiveFrame(receiver_.get()));
  EXPECT_THAT(without.fds, IsEmpty());
  ASSERT_OK_AND_ASSIGN(const Frame with, ReceiveFrame(receiver_.get()));
  ASSERT_EQ(with.fds.size(), 2U);
  ASSERT_OK_AND_ASSIGN(const uint64_t size, FileSize(with.fds[0].get()));
  EXPECT_EQ(size, 12345U);
  EXPECT_NE(::fcntl(with.fds[0].get(), F_GETFD) & FD_CLOEXEC, 0);
}

TEST_F(FrameTest, TakesAsManyDescriptorsAsLinuxPasses) {
  const std::vector<int> fds(kFrameFdsMax, sender_.get());
  ASSERT_OK(SendFrame(sender_.get(), {}, fds));
  ASSERT_OK_AND_ASSIGN(const Frame frame, ReceiveFrame(receiver_.get()));
  EXPECT_EQ(frame.fds.size(), kFrameFdsMax);
  const std::vector<int> more(kFrameFdsMax + 1, sender_.get());
  EXPECT_TRUE(SendFrame(sender_.get(), {}, more).IsInvalid());
}

TEST_F(FrameTest, RefusedFramesLeakNoDescriptor) {
  const size_t before = OpenDescriptorCount();
  FrameHeader header;
  header.payload_size_bytes = 100;
  const std::vector<int> fds(3, sender_.get());
  ASSERT_OK(SendFrame(sender_.get(), {}, fds));
  {
    ASSERT_OK_AND_ASSIGN(const Frame frame, ReceiveFrame(receiver_.get()));
    EXPECT_EQ(OpenDescriptorCount(), before + 3);
  }
  EXPECT_EQ(OpenDescriptorCount(), before);
  SendHeader(header);
  ASSERT_OK(
      SendFrame(sender_.get(), {}, fds));  // Descriptors inside another frame's payload.
  EXPECT_TRUE(IsTimeout(ReceiveFrame(receiver_.get(), milliseconds(1)).status()));
  EXPECT_EQ(OpenDescriptorCount(), before);
}

TEST_F(FrameTest, EndOfStreamIsDisconnected) {
  sender_ = UniqueFd();
  const arrow::Status status = ReceiveFrame(receiver_.get()).status();
  EXPECT_TRUE(IsDisconnected(status)) << status;
  EXPECT_TRUE(IsDisconnected(SendFrame(receiver_.get(), {})));  // And no SIGPIPE.
}

TEST_F(FrameTest, TruncatedFrameIsDisconnected) {
  FrameHeader header;
  header.payload_size_bytes = 100;
  SendHeader(header);
  SendRaw("only this", 9);
  sender_ = UniqueFd();
  EXPECT_TRUE(IsDisconnected(ReceiveFrame(receiver_.get()).status()));
}

TEST_F(FrameTest, TruncatedHeaderIsDisconnected) {
  SendRaw(&kFrameMagic, 3);
  sender_ = UniqueFd();
  EXPECT_TRUE(IsDisconnected(ReceiveFrame(receiver_.get()).status()));
}

TEST_F(FrameTest, WrongMagicIsInvalidAndEndsTheConnection) {
  FrameHeader header;
  header.magic ^= 1;
  SendHeader(header);
  EXPECT_TRUE(ReceiveFrame(receiver_.get()).status().IsInvalid());
  EXPECT_TRUE(IsDisconnected(SendFrame(sender_.get(), {})));
}

TEST_F(FrameTest, OversizedPayloadIsInvalidOnBothSides) {
  FrameHeader header;
  header.payload_size_bytes = kFramePayloadMax + 1;
  SendHeader(header);
  EXPECT_TRUE(ReceiveFrame(receiver_.get()).status().IsInvalid());
  // A span of bytes that nobody reads: the size alone is refused.
  const std::vector<uint8_t> byte(1);
  EXPECT_TRUE(
      SendFrame(sender_.get(), std::span(byte.data(), size_t{kFramePayloadMax} + 1))
          .IsInvalid());
}

TEST_F(FrameTest, TimeoutBeforeAFrameLeavesTheConnectionUsable) {
  const arrow::Status status = ReceiveFrame(receiver_.get(), milliseconds(1)).status();
  EXPECT_TRUE(IsTimeout(status)) << status;
  EXPECT_TRUE(IsTimeout(ReceiveFrame(receiver_.get(), milliseconds(-5)).status()));
  ASSERT_OK(SendFrame(sender_.get(), {}));
  EXPECT_OK(ReceiveFrame(receiver_.get(), milliseconds(0)).status());
}

TEST_F(FrameTest, TimeoutInsideAFrameEndsTheConnection) {
  SendRaw(&kFrameMagic, 4);
  EXPECT_TRUE(IsTimeout(ReceiveFrame(receiver_.get(), milliseconds(1)).status()));
  EXPECT_TRUE(IsDisconnected(ReceiveFrame(receiver_.get()).status()));
  EXPECT_TRUE(IsDisconnected(SendFrame(sender_.get(), {})));
}

TEST(UnixSocket, ConnectsAndKnowsThePeer) {
  const TestFolder folder;
  const std::string path = folder.File("socket");
  ASSERT_OK_AND_ASSIGN(const UniqueFd listener, ListenUnix(path));
  ASSERT_OK_AND_ASSIGN(const UniqueFd client, ConnectUnix(path));
  const UniqueFd server(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  ASSERT_TRUE(server.valid());
  ASSERT_OK_AND_ASSIGN(const PeerCredentials peer, GetPeerCredentials(server.get()));
  EXPECT_EQ(peer.process_id, ::getpid());
  EXPECT_EQ(peer.user_id, ::geteuid());
  ASSERT_OK(SendFrame(client.get(), {}));
  EXPECT_OK(ReceiveFrame(server.get()).status());
}

TEST(UnixSocket, IsPrivateWhateverTheUmask) {
  const TestFolder folder;
  const mode_t before = ::umask(0);
  auto listener = ListenUnix(folder.File("socket"));
  ::umask(before);
  ASSERT_OK(listener.status());
  struct stat status = {};
  ASSERT_EQ(::stat(folder.File("socket").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600U);
}

TEST(UnixSocket, NobodyThereIsDisconnected) {
  const TestFolder folder;
  EXPECT_TRUE(IsDisconnected(ConnectUnix(folder.File("none")).status()));
  {
    ASSERT_OK(ListenUnix(folder.File("stale")).status());
  }
  EXPECT_TRUE(IsDisconnected(ConnectUnix(folder.File("stale")).status()));
}

TEST(UnixSocket, StaleSocketIsReplacedALiveOneIsNot) {
  const TestFolder folder;
  const std::string path = folder.File("socket");
  {
    ASSERT_OK(ListenUnix(path).status());
  }
  ASSERT_OK_AND_ASSIGN(const UniqueFd listener, ListenUnix(path));
  EXPECT_TRUE(ListenUnix(path).status().IsAlreadyExists());
  EXPECT_OK(ConnectUnix(path).status());
}

TEST(UnixSocket, WhatIsNoSocketIsNotReplaced) {
  const TestFolder folder;
  std::ofstream(folder.File("file")) << "precious";
  EXPECT_TRUE(ListenUnix(folder.File("file")).status().IsAlreadyExists());
  EXPECT_EQ(std::filesystem::file_size(folder.File("file")), 8U);
}

TEST(UnixSocket, TooLongPathIsInvalid) {
  const arrow::Status status = ConnectUnix("/tmp/" + std::string(200, 'x')).status();
  EXPECT_TRUE(status.IsInvalid());
  EXPECT_THAT(status.message(), HasSubstr("205 bytes"));
  EXPECT_TRUE(ListenUnix("").status().IsInvalid());
}

}  // namespace
}  // namespace sheaf::platform
