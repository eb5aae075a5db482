// A client that speaks to a daemon in raw frames. Not for other code than tests.

#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <arrow/buffer.h>
#include <arrow/result.h>

#include "base/check.h"
#include "format/message.h"
#include "platform/file.h"
#include "platform/process.h"
#include "platform/unix_socket.h"
#include "region/cluster_config.h"
#include "sheaf/types.h"

namespace sheaf::daemon {

/// \brief A reply, or the status that it reports.
class RawReply {
 public:
  static arrow::Result<RawReply> Make(std::vector<uint8_t> payload) {
    RawReply reply;
    reply.payload_ = std::move(payload);
    ARROW_ASSIGN_OR_RAISE(reply.message_, format::ParseMessage(reply.payload_));
    ARROW_RETURN_NOT_OK(format::ToStatus(*reply.message_));
    return reply;
  }
  template <typename T>
  const T& As() const {
    const T* body = message_->body_as<T>();
    SHEAF_CHECK(body != nullptr);
    return *body;
  }
  const std::vector<uint8_t>& payload() const { return payload_; }

 private:
  std::vector<uint8_t> payload_;
  const format::Message* message_ = nullptr;
};

/// \brief One connection to a daemon; a session once it said Hello.
class RawClient {
 public:
  using BuildBody =
      std::function<flatbuffers::Offset<void>(flatbuffers::FlatBufferBuilder&)>;

  RawClient(const region::ClusterConfig& config, uint32_t node)
      : config_(config),
        node_{node},
        socket_(platform::ConnectUnix(config.socket_path({node})).ValueOrDie()) {}

  /// \brief For who goes on with a session: ids that it used before are passed.
  void SkipIds(uint64_t count) { last_id_ += count; }
  std::vector<uint8_t> Build(format::Body type, const BuildBody& body) {
    flatbuffers::FlatBufferBuilder builder;
    const auto offset = body(builder);
    return format::FinishRequest(&builder, ++last_id_, type, offset);
  }
  arrow::Result<RawReply> Receive() {
    ARROW_ASSIGN_OR_RAISE(platform::Frame frame, platform::ReceiveFrame(socket_.get()));
    return RawReply::Make(std::move(frame.payload));
  }
  arrow::Result<RawReply> Exchange(std::span<const uint8_t> message,
                                   std::span<const int> fds = {}) {
    ARROW_RETURN_NOT_OK(platform::SendFrame(socket_.get(), message, fds));
    return Receive();
  }
  arrow::Result<RawReply> Call(format::Body type, const BuildBody& body,
                               std::span<const int> fds = {}) {
    return Exchange(Build(type, body), fds);
  }

  /// \brief As a client does: lock, pidfd, greeting.
  arrow::Status Hello() {
    const std::string lock_name = std::to_string(platform::RandomBits()) + ".lock";
    ARROW_ASSIGN_OR_RAISE(
        auto lock, platform::FileLock::Acquire(config_.session_lock_folder(node_) + "/" +
                                               lock_name));
    lock_.emplace(std::move(lock));
    ARROW_ASSIGN_OR_RAISE(const auto pidfd,
                          platform::OpenPidFd(platform::CurrentProcessId()));
    const int fds[] = {pidfd.get()};
    ARROW_ASSIGN_OR_RAISE(
        const RawReply reply,
        Call(
            format::Body::Hello,
            [&](auto& builder) {
              return format::CreateHelloDirect(
                         builder, format::kMessageVersion, config_.cluster_id,
                         platform::CurrentProcessId(), "test", lock_name.c_str())
                  .Union();
            },
            fds));
    const auto& welcome = reply.As<format::Welcome>();
    session_ = welcome.session();
    lease_pages_.assign(welcome.lease_pages()->begin(), welcome.lease_pages()->end());
    return arrow::Status::OK();
  }
  arrow::Status Goodbye() {
    lock_.reset();
    return Call(format::Body::Goodbye,
                [](auto& builder) { return format::CreateGoodbye(builder).Union(); })
        .status();
  }

  struct Grant {
    format::GrantKey key;
    uint64_t offset = 0;
    uint64_t size_bytes = 0;
  };
  arrow::Result<Grant> RequestGrant(uint64_t size_bytes) {
    ARROW_ASSIGN_OR_RAISE(
        const RawReply reply, Call(format::Body::GrantRequest, [&](auto& builder) {
          return format::CreateGrantRequest(builder, size_bytes).Union();
        }));
    const auto& grant = reply.As<format::GrantReply>();
    return Grant{
        {grant.grant(), 0, grant.generation()}, grant.offset(), grant.size_bytes()};
  }
  arrow::Status ReturnGrant(const Grant& grant) {
    return Call(format::Body::ReturnRequest,
                [&](auto& builder) {
                  const auto keys = builder.CreateVectorOfStructs(&grant.key, 1);
                  return format::CreateReturnRequest(builder, keys).Union();
                })
        .status();
  }

  struct Put {
    std::string name = {};
    bool replace = false;
    uint32_t expected_version = 0;
    bool keep = false;
    std::vector<ObjectId> parents = {};
  };
  struct Sealed {
    ObjectId object;
    uint32_t version = 0;
  };
  std::vector<uint8_t> BuildSeal(const arrow::Buffer& descriptor, const Put& put) {
    std::vector<format::ObjectKey> parents;
    for (const ObjectId& parent : put.parents) parents.push_back(format::ToKey(parent));
    return Build(format::Body::SealRequest, [&](auto& builder) {
      const auto bytes =
          builder.CreateVector(descriptor.data(), static_cast<size_t>(descriptor.size()));
      const auto name = put.name.empty() ? 0 : builder.CreateString(put.name);
      const auto keys = builder.CreateVectorOfStructs(parents);
      return format::CreateSealRequest(builder, bytes, name, put.replace,
                                       put.expected_version, put.keep, keys)
          .Union();
    });
  }
  arrow::Result<Sealed> Seal(const arrow::Buffer& descriptor, const Put& put) {
    ARROW_ASSIGN_OR_RAISE(const RawReply reply, Exchange(BuildSeal(descriptor, put)));
    const auto& sealed = reply.As<format::SealReply>();
    return Sealed{format::FromKey(*sealed.object()), sealed.version()};
  }
  arrow::Status Retire(const ObjectId& object, const std::string& name = "") {
    const format::ObjectKey key = format::ToKey(object);
    return Call(format::Body::RetireRequest,
                [&](auto& builder) {
                  return format::CreateRetireRequestDirect(
                             builder, &key, name.empty() ? nullptr : name.c_str())
                      .Union();
                })
        .status();
  }

  int fd() const { return socket_.get(); }
  uint64_t session() const { return session_; }
  const std::vector<uint32_t>& lease_pages() const { return lease_pages_; }
  void ReleaseLock() { lock_.reset(); }
  void CloseSocket() { socket_ = platform::UniqueFd(); }

 private:
  region::ClusterConfig config_;
  NodeId node_;
  platform::UniqueFd socket_;
  std::optional<platform::FileLock> lock_;
  uint64_t last_id_ = 0;
  uint64_t session_ = 0;
  std::vector<uint32_t> lease_pages_;
};

}  // namespace sheaf::daemon
