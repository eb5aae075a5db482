// Two daemons' loops, in threads of the test, that talk through rings.

#include "daemon/ring_transport.h"

#include <array>
#include <bit>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <ostream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "daemon/doorbell.h"
#include "daemon/event_loop.h"
#include "daemon/log.h"
#include "daemon/transport.h"
#include "format/layout.h"
#include "format/message.h"
#include "format/ring.h"
#include "platform/cache.h"
#include "platform/datagram.h"
#include "platform/shared_word.h"
#include "region/cluster_config.h"
#include "region/control_line.h"
#include "region/region.h"
#include "region/test_cluster.h"
#include "sheaf/status.h"
#include "sheaf/types.h"
#include "testing/arrow_test.h"
#include "testing/eventually.h"

namespace sheaf::daemon {
namespace {

using format::Body;
using std::chrono::milliseconds;
using testing::Eventually;

/// \brief An event loop in a thread, and what others have it do.
class LoopThread {
 public:
  LoopThread() : thread_([this] { Run(); }) {}
  ~LoopThread() {
    loop_.Stop();
    thread_.join();
  }

  /// Returns when it is done.
  void Call(std::function<void()> action) {
    std::packaged_task<void()> task(std::move(action));
    auto done = task.get_future();
    {
      const std::lock_guard lock(mutex_);
      tasks_.push_back(std::move(task));
    }
    done.get();
  }
  EventLoop* loop() { return &loop_; }

 private:
  void Run() {
    RunTasks();
    loop_.Run([] {});
  }
  void RunTasks() {
    std::vector<std::packaged_task<void()>> tasks;
    {
      const std::lock_guard lock(mutex_);
      tasks.swap(tasks_);
    }
    for (auto& task : tasks) task();
    loop_.After(milliseconds(1), [this] { RunTasks(); });
  }

  EventLoop loop_;
  std::mutex mutex_;
  std::vector<std::packaged_task<void()>> tasks_;
  std::thread thread_;
};

struct Variant {
  const char* name;
  const char* toml;  ///< Keys of the cluster file.
  friend void PrintTo(const Variant& variant, std::ostream* out) { *out << variant.name; }
};

std::vector<uint8_t> MakeRequest(uint64_t id, const std::string& name) {
  flatbuffers::FlatBufferBuilder builder;
  const auto text = builder.CreateString(name);
  return format::FinishRequest(&builder, id, Body::BindRequest,
                               format::CreateBindRequest(builder, text).Union());
}

/// A node of two: what came to it, and whether it answers.
class Node {
 public:
  Node(const region::ClusterConfig& config, uint32_t id)
      : config_(config), id_{id}, region_(Attach(config, id)) {}
  ~Node() { End(); }

  static std::shared_ptr<region::Region> Attach(const region::ClusterConfig& config,
                                                uint32_t id) {
    return region::Region::Attach(config, {{id}, region::Role::kDaemon, true})
        .ValueOrDie();
  }

  void Begin() {
    thread_.Call([this] {
      bell_ = Doorbell::Open(thread_.loop(), config_, id_).ValueOrDie();
      transport_ = std::make_unique<RingTransport>(thread_.loop(), region_.get(),
                                                   bell_.get(), milliseconds(0));
      transport_->Serve([this](NodeId, const format::Message& message,
                               const ReplyFn& reply) { Handle(message, reply); });
    });
  }
  void End() {
    thread_.Call([this] {
      transport_.reset();
      bell_.reset();
    });
  }

  /// Ask the other node; what it says, and whether that is so yet.
  std::future<arrow::Status> Ask(const std::string& name) {
    auto said = std::make_shared<std::promise<arrow::Status>>();
    auto future = said->get_future();
    thread_.Call([&] {
      transport_->Request({1 - id_.value}, MakeRequest(transport_->NextRequestId(), name),
                          [said](const arrow::Result<const format::Message*>& reply) {
                            said->set_value(reply.status());
                          });
    });
    return future;
  }

  LoopThread& thread() { return thread_; }
  region::Segment& own() { return region_->own_segment(); }
  const NodeId& id() const { return id_; }

  std::vector<std::string> heard() {
    const std::lock_guard lock(mutex_);
    return heard_;
  }
  void SetAnswers(bool answers) {
    const std::lock_guard lock(mutex_);
    answers_ = answers;
  }
  /// What was not answered when it came, in that order.
  void Answer(size_t index, const arrow::Status& status) {
    thread_.Call([&] {
      const auto& [id, reply] = old_.at(index);
      reply(format::MakeOutcomeReply(id, status));
    });
  }

 private:
  void Handle(const format::Message& message, const ReplyFn& reply) {
    const std::lock_guard lock(mutex_);
    const std::string name = message.body_as_BindRequest()->name()->str();
    heard_.push_back(name + (message.is_repeated() ? " again" : ""));
    if (answers_) {
      reply(format::MakeOutcomeReply(message.request_id(), arrow::Status::OK()));
    } else {
      old_.emplace_back(message.request_id(), reply);
    }
  }

  region::ClusterConfig config_;
  NodeId id_;
  std::shared_ptr<region::Region> region_;
  std::mutex mutex_;
  std::vector<std::string> heard_;
  bool answers_ = true;
  std::vector<std::pair<uint64_t, ReplyFn>> old_;
  LoopThread thread_;
  std::unique_ptr<Doorbell> bell_;
  std::unique_ptr<RingTransport> transport_;
};

class RingTransportTest : public ::testing::TestWithParam<Variant> {
 protected:
  void SetUp() override {
    SetLogLevel(LogLevel::kOff);
    config_ = region::ClusterConfig::FromToml(GetParam().toml, "test", memory_.Config())
                  .ValueOrDie();
    std::filesystem::create_directories(config_.runtime_folder);
    for (const uint32_t k : {0U, 1U}) ASSERT_OK(region::FormatSegment(config_, {k}));
    for (const uint32_t k : {0U, 1U}) nodes_[k] = std::make_unique<Node>(config_, k);
    for (const auto& node : nodes_) node->Begin();
  }

  uint64_t* EndLine(uint32_t of) {
    region::Segment& own = nodes_[of]->own();
    return own.ControlLine(own.layout().ring_ends + (1 - of) * format::kLineBytes);
  }

  region::TestMemory memory_;
  region::ClusterConfig config_;
  std::array<std::unique_ptr<Node>, 2> nodes_;
};

TEST_P(RingTransportTest, RequestsAreAnsweredBothWays) {
  for (int i = 0; i < 20; ++i) {
    for (const auto& node : nodes_) {
      EXPECT_OK(node->Ask(std::to_string(i)).get());
    }
  }
  for (const auto& node : nodes_) {
    const auto heard = node->heard();
    ASSERT_EQ(heard.size(), 20U);
    for (size_t i = 0; i < heard.size(); ++i) EXPECT_EQ(heard[i], std::to_string(i));
  }
}

TEST_P(RingTransportTest, LongMessagesArriveWhole) {
  const std::string name(3'000'000, 'x');
  auto answered = nodes_[0]->Ask(name);
  EXPECT_OK(answered.get());
  EXPECT_EQ(nodes_[1]->heard(), std::vector<std::string>{name});
}

/// M3: asked again, marked; what the one before would have said is for nobody.
TEST_P(RingTransportTest, APeerThatRestartsInTheMiddleOfARequestIsAskedAgain) {
  nodes_[1]->SetAnswers(false);
  auto answered = nodes_[0]->Ask("a");
  ASSERT_TRUE(Eventually([&] { return nodes_[1]->heard().size() == 1; }));
  nodes_[1]->End();
  nodes_[1]->Begin();
  ASSERT_TRUE(Eventually([&] { return nodes_[1]->heard().size() == 2; }));
  EXPECT_EQ(nodes_[1]->heard()[1], "a again");
  nodes_[1]->Answer(0, arrow::Status::OK());
  nodes_[1]->Answer(1, arrow::Status::Invalid("the second"));
  EXPECT_TRUE(answered.get().IsInvalid());
  nodes_[1]->SetAnswers(true);
  EXPECT_OK(nodes_[0]->Ask("b").get());
}

/// Its first request has the id of one that the life before has not been answered yet.
TEST_P(RingTransportTest, AnOldReplyDoesNotAnswerANewRequestOfTheSameId) {
  nodes_[1]->SetAnswers(false);
  [[maybe_unused]] const auto forgotten = nodes_[0]->Ask("a");
  ASSERT_TRUE(Eventually([&] { return nodes_[1]->heard().size() == 1; }));
  nodes_[0]->End();
  nodes_[0]->Begin();
  auto answered = nodes_[0]->Ask("b");
  ASSERT_TRUE(Eventually([&] { return nodes_[1]->heard().size() == 2; }));
  nodes_[1]->Answer(0, arrow::Status::Invalid("an old reply"));
  nodes_[1]->Answer(1, arrow::Status::OK());
  EXPECT_OK(answered.get());
}

/// Back-pressure instead of loss: what was taken is done when it goes on.
TEST_P(RingTransportTest, WhoDoesNotReadIsWaitedForUpToALimit) {
  EXPECT_OK(nodes_[0]->Ask("first").get());
  std::promise<void> pauses;
  std::promise<void> goes_on;
  std::thread pause([&] {
    nodes_[1]->thread().Call([&] {
      pauses.set_value();
      goes_on.get_future().wait();
    });
  });
  pauses.get_future().wait();
  std::vector<std::future<arrow::Status>> answers;
  const std::string name(100'000, 'x');
  const auto is_refused = [](std::future<arrow::Status>& answer) {
    return answer.wait_for(milliseconds(0)) == std::future_status::ready;
  };
  // In its ring, in the queue, and one that fails at once.
  do {
    answers.push_back(nodes_[0]->Ask(name));
    nodes_[0]->thread().Call([] {});  // Its turn is over.
    nodes_[0]->thread().Call([] {});
  } while (!is_refused(answers.back()) && answers.size() < 100);
  const arrow::Status refused = answers.back().get();
  EXPECT_TRUE(IsNodeLost(refused));
  EXPECT_THAT(refused.message(), ::testing::HasSubstr("bytes of messages unread"));
  answers.pop_back();
  EXPECT_GE(answers.size(), kUnreadBytesMax / name.size());
  goes_on.set_value();
  pause.join();
  for (auto& answer : answers) EXPECT_OK(answer.get());
  EXPECT_EQ(nodes_[1]->heard().size(), answers.size() + 1);
  EXPECT_OK(nodes_[0]->Ask("last").get());
}

/// Contained: one session ends, the next one works.
TEST_P(RingTransportTest, GarbageInARingEndsItsSessionOnly) {
  EXPECT_OK(nodes_[1]->Ask("a").get());
  const auto end = region::ReadControlLine<format::RingEnd>(nodes_[1]->own(), EndLine(1));
  ASSERT_TRUE(end.has_value());
  region::Segment& own = nodes_[1]->own();
  const uint64_t rings = own.layout().rings;
  // As if it had said a message that is none, in the place of all to come.
  nodes_[1]->thread().Call([&] {
    for (uint64_t number = 1; number <= 64; ++number) {
      uint64_t* line = own.ControlLine(rings + (number - 1) * format::kLineBytes);
      const format::RingFrameHead head{8, 0, 0xBAD};
      platform::SharedWord(line + 1).StoreRelease(std::bit_cast<uint64_t>(head));
      platform::SharedWord(line).StoreRelease(
          format::RingTag(end->life, end->peer_life, number));
      own.control().cache()->Flush(line, format::kLineBytes);
    }
  });
  EXPECT_OK(nodes_[1]->Ask("b").get());
  EXPECT_OK(nodes_[0]->Ask("c").get());
  EXPECT_EQ(nodes_[1]->heard(), std::vector<std::string>{"c"});
}

TEST_P(RingTransportTest, APeerOfAnotherVersionIsToldOf) {
  EXPECT_OK(nodes_[0]->Ask("a").get());
  nodes_[1]->End();
  auto end = region::ReadControlLine<format::RingEnd>(nodes_[1]->own(), EndLine(1));
  ASSERT_TRUE(end.has_value());
  end->version = 99;
  region::StoreControlLine(&nodes_[1]->own(), EndLine(1), *end, region::kBusyLine,
                           region::Arrival::kSettled);
  const arrow::Status refused = nodes_[0]->Ask("b").get();
  EXPECT_TRUE(IsNodeLost(refused));
  EXPECT_THAT(refused.message(), ::testing::HasSubstr("speaks version 99"));
  nodes_[1]->Begin();
  EXPECT_TRUE(Eventually([&] { return nodes_[0]->Ask("c").get().ok(); }));
}

/// Whoever may send to the socket has the node look, and nothing else.
TEST_P(RingTransportTest, ForgedDoorbellsHarmNobody) {
  const auto address =
      platform::UnixDatagramAddress(config_.doorbell_path({0})).ValueOrDie();
  const auto fd = platform::OpenDatagrams(address).ValueOrDie();
  for (int i = 0; i < 1000; ++i) {
    std::vector<uint8_t> bytes(static_cast<size_t>(i % 40), static_cast<uint8_t>(i));
    if (bytes.size() >= 16) {
      const std::array<uint64_t, 2> call = {config_.cluster_id,
                                            i % 2 == 0 ? 1U : ~uint64_t{0}};
      std::memcpy(bytes.data(), call.data(), sizeof(call));
    }
    platform::SendDatagram(fd.get(), address, bytes);
  }
  for (const auto& node : nodes_) EXPECT_OK(node->Ask("a").get());
}

INSTANTIATE_TEST_SUITE_P(
    All, RingTransportTest,
    ::testing::Values(
        Variant{"Shm", ""}, Variant{"ShmSoftware", "coherence = 'software'\n"},
        Variant{"SimStale", "backend = 'sim'\n"},
        Variant{"SimChaos", "backend = 'sim'\n[sim]\nchaos = true\n"},
        Variant{"SimPosted",
                "backend = 'sim'\nposted_delay_us = 2000\n[sim]\n"
                "chaos = true\nposted = true\n"},
        Variant{"Spinning", "spin_us = 2000\n"},
        Variant{"SpinningSoftware", "spin_us = 300\ncoherence = 'software'\n"},
        // As of two other hosts.
        Variant{"Udp",
                "[[node]]\nid = 0\nhost = 'not-this'\naddress = '127.0.0.1:27117'\n"
                "[[node]]\nid = 1\nhost = 'not-that'\n"
                "address = '127.0.0.1:27118'\n"},
        Variant{"NoDoorbell",
                "[[node]]\nid = 0\nhost = 'not-this'\n"
                "[[node]]\nid = 1\nhost = 'not-that'\n"}),
    [](const auto& variant) { return variant.param.name; });

}  // namespace
}  // namespace sheaf::daemon
