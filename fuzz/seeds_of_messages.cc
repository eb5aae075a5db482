// Seeds of messages, in scripts that a daemon really answers.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <arrow/status.h>

#include "base/check.h"
#include "daemon/catalog_client.h"
#include "daemon/test_node.h"
#include "directory/catalog.h"
#include "format/layout.h"
#include "format/message.h"
#include "fuzz/message_world.h"
#include "fuzz/seeds.h"
#include "region/region.h"
#include "sheaf/status.h"
#include "sheaf/types.h"

namespace sheaf::fuzz {
namespace {

using format::Body;
using Builder = flatbuffers::FlatBufferBuilder;
using Bytes = std::vector<uint8_t>;
using BuildFn = std::function<flatbuffers::Offset<void>(Builder*)>;

// As message_fuzz.cc numbers them.
constexpr uint8_t kFirst = 0;
constexpr uint8_t kSecond = 1;
constexpr uint8_t kPeer = 2;
constexpr uint8_t kPeerReply = 3;
constexpr uint8_t kAtOnce = 0x80;
constexpr uint8_t kAfterRestart = 0x40;

/// Messages to one daemon, with what it answers to those of the sessions.
class Script {
 public:
  Script(World* world, uint32_t node)
      : world_(world),
        node_(node),
        region_(world->region(node)),
        daemon_(world->Start(node)) {
    for (uint64_t& session : sessions_) {
      session = daemon_->home->OpenSession().ValueOrDie().id;
    }
    bytes_.push_back(static_cast<char>(node));
  }

  const std::string& bytes() const { return bytes_; }
  ObjectId last_sealed() const { return last_sealed_; }

  Script& Add(uint8_t sender, Body type, const BuildFn& build) {
    Builder builder;
    const auto body = build(&builder);
    const uint64_t id = ++last_id_;
    const Bytes message = sender == kPeerReply
                              ? format::FinishReply(&builder, id, type, body)
                              : format::FinishRequest(&builder, id, type, body);
    Append(sender, message);
    Deliver(sender, message);
    return *this;
  }

  /// The next request repeats the last one.
  Script& Repeat() {
    is_repeated_ = true;
    return *this;
  }

  Script& Grant(uint8_t sender, uint64_t size_bytes) {
    return Add(sender, Body::GrantRequest, [=](Builder* builder) {
      return format::CreateGrantRequest(*builder, size_bytes).Union();
    });
  }

  struct Put {
    std::string name = {};
    bool replace = false;
    uint32_t expected_version = 0;
    bool keep = false;
    std::vector<ObjectId> parents = {};
  };
  Script& Seal(uint8_t sender, const std::vector<GlobalRange>& ranges, const Put& put) {
    const auto descriptor = daemon::DescribeRanges(region_, ranges);
    std::vector<format::ObjectKey> parents;
    for (const ObjectId& parent : put.parents) parents.push_back(format::ToKey(parent));
    return Add(sender, Body::SealRequest, [&](Builder* builder) {
      const auto bytes = builder->CreateVector(descriptor->data(),
                                               static_cast<size_t>(descriptor->size()));
      const auto name = put.name.empty() ? 0 : builder->CreateString(put.name);
      const auto keys = builder->CreateVectorOfStructs(parents);
      return format::CreateSealRequest(*builder, bytes, name, put.replace,
                                       put.expected_version, put.keep, keys)
          .Union();
    });
  }
  /// The beginning of the last grant.
  std::vector<GlobalRange> Own(uint64_t offset, uint64_t size_bytes) const {
    return {{{{node_}, granted_offset_ + offset}, size_bytes}};
  }

  Script& Return(uint8_t sender) {
    return Add(sender, Body::ReturnRequest, [this](Builder* builder) {
      const auto keys = builder->CreateVectorOfStructs(&granted_, 1);
      return format::CreateReturnRequest(*builder, keys).Union();
    });
  }
  Script& Retire(uint8_t sender, const ObjectId& object, const char* name) {
    return Add(sender, Body::RetireRequest, [=](Builder* builder) {
      const format::ObjectKey key = format::ToKey(object);
      return format::CreateRetireRequestDirect(*builder, &key, name).Union();
    });
  }
  Script& Keep(uint8_t sender, const ObjectId& object, bool keep) {
    return Add(sender, Body::KeepRequest, [=](Builder* builder) {
      const format::ObjectKey key = format::ToKey(object);
      return format::CreateKeepRequest(*builder, &key, keep).Union();
    });
  }
  /// After its connection was lost; it knows of the last grant and lease only.
  Script& GoOn(uint8_t sender) {
    return Add(sender, Body::Hello, [this](Builder* builder) {
      const std::vector<format::GrantKey> grants = {granted_};
      const std::vector<format::LeaseCell> leases = {leased_};
      return format::CreateHelloDirect(*builder, format::kMessageVersion, 0x5EAF, 17,
                                       "/bin/x", nullptr, 5, &grants, &leases)
          .Union();
    });
  }
  Script& Forget(uint8_t sender, uint32_t node) {
    return Add(sender, Body::ForgetNodeRequest, [=](Builder* builder) {
      return format::CreateForgetNodeRequest(*builder, node).Union();
    });
  }
  Script& LeasePage(uint8_t sender) {
    return Add(sender, Body::LeasePageRequest, [](Builder* builder) {
      return format::CreateLeasePageRequest(*builder).Union();
    });
  }
  /// A reader's, whose daemon writes its cells.
  Script& Lease(uint8_t sender, const ObjectId& object) {
    return Add(sender, Body::LeaseRequest, [=](Builder* builder) {
      const format::ObjectKey key = format::ToKey(object);
      return format::CreateLeaseRequest(*builder, &key).Union();
    });
  }
  /// The last lease.
  Script& DropLease(uint8_t sender) {
    return Add(sender, Body::DropLeaseRequest, [this](Builder* builder) {
      return format::CreateDropLeaseRequest(*builder, &leased_).Union();
    });
  }
  Script& Bind(const ObjectId& object, const char* name, bool replace,
               uint32_t expected_version = 0) {
    return Add(kPeer, Body::BindRequest, [=](Builder* builder) {
      const format::ObjectKey key = format::ToKey(object);
      return format::CreateBindRequestDirect(*builder, name, &key, replace,
                                             expected_version)
          .Union();
    });
  }
  Script& Commit(const ObjectId& object, const char* name, directory::Version version) {
    return Add(kPeer, Body::CommitRequest, [=](Builder* builder) {
      const format::ObjectKey key = format::ToKey(object);
      return format::CreateCommitRequestDirect(*builder, name, &key, version.epoch,
                                               version.sequence)
          .Union();
    });
  }
  Script& Unbind(const ObjectId& object, const char* name) {
    return Add(kPeer, Body::UnbindRequest, [=](Builder* builder) {
      const format::ObjectKey key = format::ToKey(object);
      return format::CreateUnbindRequestDirect(*builder, name, &key).Union();
    });
  }
  Script& ReplyBind(directory::Version version) {
    return Add(kPeerReply, Body::BindReply, [=](Builder* builder) {
      return format::CreateBindReply(*builder, version.epoch, version.sequence).Union();
    });
  }
  Script& ReplyCommit(const std::vector<ObjectId>& superseded) {
    return Add(kPeerReply, Body::CommitReply, [&](Builder* builder) {
      std::vector<format::ObjectKey> keys;
      for (const ObjectId& object : superseded) keys.push_back(format::ToKey(object));
      return format::CreateCommitReplyDirect(*builder, &keys).Union();
    });
  }
  Script& ReplyOutcome(const arrow::Status& status) {
    const Bytes message = format::MakeOutcomeReply(++last_id_, status);
    Append(kPeerReply, message);
    Deliver(kPeerReply, message);
    return *this;
  }

 private:
  void Append(uint8_t sender, const Bytes& message) {
    const auto size = static_cast<uint16_t>(message.size());
    SHEAF_CHECK(size == message.size());
    bytes_.push_back(static_cast<char>(sender));
    bytes_.append(reinterpret_cast<const char*>(&size), sizeof(size));
    bytes_.append(reinterpret_cast<const char*>(message.data()), message.size());
  }

  void Deliver(uint8_t how, const Bytes& bytes) {
    const format::Message& message = *format::ParseMessage(bytes).ValueOrDie();
    if ((how & kAtOnce) == 0) daemon_->clock.Advance(std::chrono::milliseconds(10));
    if ((how & kAfterRestart) != 0) {
      daemon_.reset();
      daemon_ = world_->StartAgain(node_);
    }
    const uint8_t sender = how & ~(kAtOnce | kAfterRestart);
    const auto on_reply = [this](const Bytes& reply) { Learn(reply); };
    if (sender <= kSecond) {
      if (daemon_->leases.Handle(sessions_[sender], message, on_reply)) return;
      static_cast<void>(daemon_->service.Handle(sessions_[sender], message, on_reply));
    } else if (sender == kPeer) {
      if (!daemon_->catalog.Handle({1 - node_}, message, on_reply)) {
        daemon_->homes.Handle(message, on_reply);
      }
    } else {
      const arrow::Status status = format::ToStatus(message);
      if (status.ok()) {
        daemon_->transport.Answer(&message);
      } else {
        daemon_->transport.Answer(status);
      }
    }
  }

  void Learn(const Bytes& reply) {
    const format::Message& message = *format::ParseMessage(reply).ValueOrDie();
    if (const auto* grant = message.body_as<format::GrantReply>()) {
      granted_ = {grant->grant(), 0, grant->generation()};
      granted_offset_ = grant->offset();
    } else if (const auto* sealed = message.body_as<format::SealReply>()) {
      last_sealed_ = format::FromKey(*sealed->object());
    } else if (const auto* lease = message.body_as<format::LeaseReply>()) {
      leased_ = *lease->cell();
    }
  }

  World* world_;
  uint32_t node_;
  region::Region& region_;
  std::unique_ptr<WorldDaemon> daemon_;
  uint64_t sessions_[2] = {};
  uint64_t last_id_ = 0;
  bool is_repeated_ = false;
  format::GrantKey granted_;
  uint64_t granted_offset_ = 0;
  format::LeaseCell leased_;
  ObjectId last_sealed_;
  std::string bytes_;
};

/// Objects of node `node` in the world before it starts: unnamed, and "peer".
std::vector<ObjectId> TablesOf(uint32_t node) {
  const uint64_t generation = format::FirstGeneration(7);
  return {{{node}, 0, generation}, {{node}, 1, generation}};
}

/// Daemons die between and after requests, which are then repeated.
void WriteWithRestarts(World* world, const SeedFolder& seeds) {
  const auto write = [&](const char* name, uint32_t node, auto play) {
    Script script(world, node);
    play(&script);
    seeds.Write(name, script.bytes());
  };
  constexpr uint64_t k64 = 65536;
  constexpr uint8_t kNext = kFirst | kAfterRestart;
  write("restart", 0, [](Script* s) {
    s->Grant(kFirst, k64).GoOn(kNext).Seal(kNext, s->Own(0, 8), {}).Return(kNext);
  });
  write("restart_repeats", 0, [](Script* s) {
    const std::vector<Script::Put> puts = {
        {}, {.name = "a"}, {.name = "a", .replace = true}};
    s->Grant(kFirst, k64);
    for (const Script::Put& put : puts) {
      s->Seal(kFirst, s->Own(0, 8), put).Repeat().Seal(kNext, s->Own(0, 8), put);
    }
    s->Retire(kFirst, s->last_sealed(), "a").Repeat();
    s->Retire(kNext, s->last_sealed(), "a").Return(kFirst).Repeat().Return(kNext);
  });
  write("reader_leases", 1, [](Script* s) {
    s->Lease(kSecond, TablesOf(0)[0]).Lease(kSecond, TablesOf(0)[1]).DropLease(kSecond);
    s->Lease(kSecond, {{9}, 0, 1}).DropLease(kSecond).DropLease(kFirst);
  });
  write("reader_restart", 1, [](Script* s) {
    constexpr uint8_t kReader = kSecond | kAfterRestart;
    s->Lease(kSecond, TablesOf(0)[0]).Lease(kSecond, TablesOf(0)[1]).GoOn(kReader);
    s->DropLease(kSecond).Repeat().DropLease(kReader);
    s->Lease(kReader, TablesOf(0)[0]).Repeat().Lease(kReader, TablesOf(0)[0]);
  });
  write("follower_restart_sealed", 1, [](Script* s) {
    s->Grant(kFirst, k64).Seal(kFirst, s->Own(0, 8), {.name = "a"});
    s->Repeat().Seal(kNext, s->Own(0, 8), {.name = "a"});
    s->ReplyBind({2, 1}).ReplyCommit({});
  });
  write("follower_restart_bound", 1, [](Script* s) {
    const Script::Put put = {.name = "peer", .replace = true};
    s->Grant(kFirst, k64).Seal(kFirst, s->Own(0, 8), put).ReplyBind({2, 2});
    s->Repeat().Seal(kNext, s->Own(0, 8), put);
    s->ReplyCommit({}).ReplyCommit({});
  });
}

void WriteOfSessions(World* world, const SeedFolder& seeds) {
  const auto write = [&](const char* name, auto play) {
    Script script(world, 0);
    play(&script);
    seeds.Write(name, script.bytes());
  };
  constexpr uint64_t k64 = 65536;
  write("nothing", [](Script*) {});
  write("grant", [](Script* s) { s->Grant(kFirst, k64).Return(kFirst); });
  write("grant_all", [](Script* s) { s->Grant(kFirst, 8 << 20).Grant(kSecond, 1); });
  write("return_of_other", [](Script* s) { s->Grant(kFirst, k64).Return(kSecond); });
  write("lease_pages", [](Script* s) {
    for (int i = 0; i < 6; ++i) s->LeasePage(kFirst);
  });
  write("unnamed", [](Script* s) {
    s->Grant(kFirst, k64).Seal(kFirst, s->Own(0, 1024), {});
    s->Keep(kFirst, s->last_sealed(), true).Keep(kSecond, s->last_sealed(), false);
    s->Retire(kFirst, s->last_sealed(), nullptr);
  });
  write("named", [](Script* s) {
    s->Grant(kFirst, k64).Seal(kFirst, s->Own(0, 1024), {.name = "a"});
    s->Retire(kSecond, s->last_sealed(), "a");
  });
  write("replaced", [](Script* s) {
    s->Grant(kFirst, k64).Seal(kFirst, s->Own(0, 1024), {.name = "a"});
    s->Seal(kFirst, s->Own(4096, 8), {.name = "a", .replace = true});
    s->Seal(kFirst, s->Own(8192, 8),
            {.name = "a", .replace = true, .expected_version = 2});
    s->Seal(kFirst, s->Own(8192, 8), {.name = "a"});
  });
  write("shared", [](Script* s) {
    s->Grant(kFirst, k64).Seal(kFirst, s->Own(0, 1024), {.keep = true});
    s->Return(kFirst);
    s->Seal(kSecond, s->Own(256, 512), {.parents = {s->last_sealed()}});
    s->Seal(kSecond, s->Own(0, 2048), {.parents = {s->last_sealed()}});
  });
  write("of_peer", [](Script* s) {
    s->Seal(kFirst, {{{{1}, 0}, 4096}}, {.name = "a", .parents = TablesOf(1)});
    s->Retire(kFirst, s->last_sealed(), "a");
  });
  write("grant_after_reclaim", [](Script* s) {
    s->Grant(kFirst, 8 << 20).Seal(kFirst, s->Own(0, 8 << 20), {});
    s->Return(kFirst).Retire(kFirst, s->last_sealed(), nullptr);
    s->Grant(kSecond | kAtOnce, 2 << 20);
  });
  write("goes_on", [](Script* s) {
    s->Grant(kFirst, k64).Grant(kFirst, k64).GoOn(kFirst);
    s->Seal(kFirst, s->Own(0, 1024), {}).GoOn(kSecond);
  });
  write("forgets", [](Script* s) { s->Forget(kFirst, 1).Forget(kPeer, 0); });
  write("foreign_bytes",
        [](Script* s) { s->Grant(kFirst, k64).Seal(kSecond, s->Own(0, 1024), {}); });
  write("at_other_home", [](Script* s) {
    s->Retire(kFirst, TablesOf(1)[1], "peer").ReplyOutcome(arrow::Status::OK());
    s->Keep(kFirst, TablesOf(1)[0], false);
    s->ReplyOutcome(MakeStatus(arrow::StatusCode::Invalid, ErrorReason::kStaleGeneration,
                               "it is gone"));
  });
  write("replaces_peer", [](Script* s) {
    s->Grant(kFirst, k64).Seal(kFirst, s->Own(0, 8), {.name = "peer", .replace = true});
    s->ReplyOutcome(arrow::Status::OK());
  });
}

/// Of node 1 to the leader's daemon.
void WriteOfPeer(World* world, const SeedFolder& seeds) {
  const auto write = [&](const char* name, auto play) {
    Script script(world, 0);
    play(&script);
    seeds.Write(name, script.bytes());
  };
  const ObjectId unnamed = TablesOf(1)[0];
  const ObjectId named = TablesOf(1)[1];
  write("peer_binds", [=](Script* s) {
    s->Bind(unnamed, "a", false).Bind(named, "peer", false).Bind(named, "a", true, 1);
    s->Commit(unnamed, "a", {2, 1}).Unbind(unnamed, "a");
  });
  write("peer_commits", [=](Script* s) {
    s->Commit(named, "peer", {2, 1}).Commit(named, "other", {2, 7});
    s->Unbind(named, "peer").Bind(unnamed, "peer", true);
  });
  write("peer_retires", [=](Script* s) {
    s->Grant(kFirst, 65536).Seal(kFirst, s->Own(0, 1024), {.name = "a"});
    s->Keep(kPeer, s->last_sealed(), true).Retire(kPeer, s->last_sealed(), "a");
  });
  write("peer_hello", [](Script* s) {
    s->Add(kPeer, Body::NodeHello, [](Builder* builder) {
      return format::CreateNodeHello(*builder, format::kMessageVersion, 0x5EAF, 1, 1,
                                     /*format_epoch=*/7, /*peer_format_epoch=*/7)
          .Union();
    });
    s->Add(kPeer, Body::FlushPagesRequest, [](Builder* builder) {
      return format::CreateFlushPagesRequest(*builder).Union();
    });
  });
}

/// A daemon that does not lead, and what the leader answers it.
void WriteOfFollower(World* world, const SeedFolder& seeds) {
  const auto write = [&](const char* name, auto play) {
    Script script(world, 1);
    play(&script);
    seeds.Write(name, script.bytes());
  };
  write("follower_named", [](Script* s) {
    s->Grant(kFirst, 65536).Seal(kFirst, s->Own(0, 8), {.name = "a"});
    s->ReplyBind({2, 1}).ReplyCommit({});
    s->Retire(kFirst, s->last_sealed(), "a").ReplyOutcome(arrow::Status::OK());
  });
  write("follower_replaces", [](Script* s) {
    s->Grant(kFirst, 65536).Seal(kFirst, s->Own(0, 8), {.name = "peer", .replace = true});
    s->ReplyBind({2, 2}).ReplyCommit({TablesOf(0)[1]}).ReplyOutcome(arrow::Status::OK());
  });
  write("follower_superseded", [](Script* s) {
    s->Grant(kFirst, 65536).Seal(kFirst, s->Own(0, 8), {.name = "peer", .replace = true});
    s->ReplyBind({2, 2}).ReplyCommit({{{1}, 0, format::FirstGeneration(7)}});
  });
  write("follower_denied", [](Script* s) {
    s->Grant(kFirst, 65536).Seal(kFirst, s->Own(0, 8), {.name = "a"});
    s->ReplyOutcome(arrow::Status::AlreadyExists("a"));
  });
  write("follower_old_epoch", [](Script* s) {
    s->Grant(kFirst, 65536).Seal(kFirst, s->Own(0, 8), {.name = "a"});
    s->ReplyBind({0, 1}).ReplyBind({2, 1}).ReplyCommit({});
  });
}

/// Bodies that no script above has: a client or a daemon reads them.
void WriteSingleMessages(const SeedFolder& seeds) {
  const auto write = [&](const char* name, Body type, const BuildFn& build) {
    Builder builder;
    const auto body = build(&builder);
    const Bytes message = format::FinishReply(&builder, 1, type, body);
    const auto size = static_cast<uint16_t>(message.size());
    std::string bytes = {0, kPeerReply};
    bytes.append(reinterpret_cast<const char*>(&size), sizeof(size));
    seeds.Write(name, bytes + std::string(message.begin(), message.end()));
  };
  write("welcome", Body::Welcome, [](Builder* builder) {
    const std::vector<uint32_t> pages = {0, 1};
    return format::CreateWelcomeDirect(*builder, 5, 0, 1, &pages).Union();
  });
  write("hello", Body::Hello, [](Builder* builder) {
    return format::CreateHelloDirect(*builder, 1, 0x5EAF, 17, "/bin/x", "17.lock")
        .Union();
  });
  write("grant_reply", Body::GrantReply, [](Builder* builder) {
    return format::CreateGrantReply(*builder, 1, 2, 3, 4096, 65536).Union();
  });
  write("lease_page_reply", Body::LeasePageReply, [](Builder* builder) {
    return format::CreateLeasePageReply(*builder, 3).Union();
  });
  write("part_request", Body::PartRequest, [](Builder* builder) {
    return format::CreatePartRequest(*builder, 1, format::PartFile::Data).Union();
  });
  write("part_reply", Body::PartReply,
        [](Builder* builder) { return format::CreatePartReply(*builder).Union(); });
  write("lease_reply", Body::LeaseReply, [](Builder* builder) {
    const format::LeaseCell cell(3, 17);
    return format::CreateLeaseReply(*builder, &cell).Union();
  });
  write("seal_reply", Body::SealReply, [](Builder* builder) {
    const format::ObjectKey key = format::ToKey(TablesOf(1)[0]);
    return format::CreateSealReply(*builder, &key, 2).Union();
  });
}

}  // namespace

void WriteMessageSeeds(const std::filesystem::path& corpus) {
  World world;
  const SeedFolder seeds(corpus, "message");
  WriteOfSessions(&world, seeds);
  WriteOfPeer(&world, seeds);
  WriteOfFollower(&world, seeds);
  WriteWithRestarts(&world, seeds);
  WriteSingleMessages(seeds);
}

}  // namespace sheaf::fuzz
