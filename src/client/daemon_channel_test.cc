#include "client/daemon_channel.h"

#include <sys/socket.h>

#include <string>
#include <thread>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>
#include <gtest/gtest.h>

#include "base/check.h"
#include "format/message.h"
#include "platform/file.h"
#include "platform/test_folder.h"
#include "platform/unix_socket.h"
#include "testing/arrow_test.h"

namespace sheaf::client {
namespace {

/// A daemon that answers each request as often as it is told.
class Answers {
 public:
  Answers(const std::string& path, std::vector<int> times)
      : listener_(platform::ListenUnix(path).ValueOrDie()),
        thread_([this, times] { Run(times); }) {}
  ~Answers() { thread_.join(); }

 private:
  void Run(const std::vector<int>& times) {
    const platform::UniqueFd socket(::accept(listener_.get(), nullptr, nullptr));
    SHEAF_CHECK(socket.valid());
    for (const int count : times) {
      const auto request = platform::ReceiveFrame(socket.get());
      SHEAF_CHECK(request.ok());
      const auto id = format::GetMessage(request->payload.data())->request_id();
      for (int i = 0; i < count; ++i) {
        SHEAF_CHECK(platform::SendFrame(socket.get(),
                                        format::MakeOutcomeReply(id, arrow::Status::OK()))
                        .ok());
      }
    }
  }

  platform::UniqueFd listener_;
  std::thread thread_;
};

arrow::Status AskForPage(DaemonChannel* channel) {
  return channel
      ->Call(format::Body::LeasePageRequest,
             [](flatbuffers::FlatBufferBuilder* builder) {
               return format::CreateLeasePageRequest(*builder).Union();
             })
      .status();
}

/// A request that was under way when its connection broke is answered over the next one,
/// and so is its repetition.
TEST(DaemonChannel, AReplyThatComesTwiceIsNotTakenForTheNext) {
  const platform::TestFolder folder;
  const Answers daemon(folder.path() + "/socket", {2, 1, 3, 1});
  ASSERT_OK_AND_ASSIGN(const auto channel,
                       DaemonChannel::Connect(folder.path() + "/socket"));
  for (int i = 0; i < 4; ++i) EXPECT_OK(AskForPage(channel.get())) << i;
}

}  // namespace
}  // namespace sheaf::client
