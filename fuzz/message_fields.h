// Reads every field of a message that passed format::ParseMessage: whatever a handler may
// touch, a sanitizer then sees.

#pragma once

#include <cstdint>
#include <string_view>

#include "format/message.h"

namespace sheaf::fuzz {

class FieldReader {
 public:
  /// \brief A number that depends on all fields.
  static uint64_t Read(const format::Message& message) {
    FieldReader reader;
    reader.Add(message.request_id());
    reader.Add(message.is_reply());
    reader.Add(message.is_repeated());
    if (const format::Outcome* outcome = message.outcome()) {
      reader.Add(outcome->code());
      reader.Add(outcome->reason());
      reader.Add(outcome->text());
    }
    reader.ReadSessionBody(message);
    reader.ReadReplyBody(message);
    reader.ReadNodeBody(message);
    return reader.sum_;
  }

 private:
  void Add(uint64_t value) { sum_ = sum_ * 31 + value; }
  void Add(const flatbuffers::String* text) {
    if (text == nullptr) return;
    for (const char c : std::string_view(text->c_str(), text->size())) Add(c);
  }
  void Add(const format::ObjectKey* key) {
    if (key == nullptr) return;
    const ObjectId id = format::FromKey(*key);
    Add(id.segment.value);
    Add(id.slot);
    Add(id.generation);
  }
  void Add(const format::GrantKey* key) {
    Add(key->grant());
    Add(key->generation());
  }
  void Add(const format::LeaseCell* cell) {
    if (cell == nullptr) return;
    Add(cell->page());
    Add(cell->index());
  }
  template <typename T>
  void Add(const flatbuffers::Vector<T>* values) {
    if (values == nullptr) return;
    for (const auto& value : *values) Add(value);
  }

  void ReadSessionBody(const format::Message& message) {
    if (const auto* hello = message.body_as<format::Hello>()) {
      Add(hello->protocol_version());
      Add(hello->cluster_id());
      Add(static_cast<uint64_t>(hello->process_id()));
      Add(hello->program());
      Add(hello->lock_name());
      Add(hello->session());
      Add(hello->grants());
      Add(hello->leases());
      Add(hello->format_epoch());
    } else if (const auto* grant = message.body_as<format::GrantRequest>()) {
      Add(grant->size_bytes());
    } else if (const auto* returned = message.body_as<format::ReturnRequest>()) {
      Add(returned->grants());
    } else if (const auto* seal = message.body_as<format::SealRequest>()) {
      Add(seal->descriptor());
      Add(seal->name());
      Add(seal->replace());
      Add(seal->expected_version());
      Add(seal->keep());
      Add(seal->parents());
    } else if (const auto* retire = message.body_as<format::RetireRequest>()) {
      Add(retire->object());
      Add(retire->name());
      Add(retire->is_removal());
      Add(retire->remover());
    } else if (const auto* keep = message.body_as<format::KeepRequest>()) {
      Add(keep->object());
      Add(keep->keep());
    } else if (const auto* part = message.body_as<format::PartRequest>()) {
      Add(part->segment());
      Add(static_cast<uint64_t>(part->part()));
    } else if (const auto* lease = message.body_as<format::LeaseRequest>()) {
      Add(lease->object());
    } else if (const auto* dropped = message.body_as<format::DropLeaseRequest>()) {
      Add(dropped->cell());
    }
  }

  void ReadReplyBody(const format::Message& message) {
    if (const auto* welcome = message.body_as<format::Welcome>()) {
      Add(welcome->session());
      Add(welcome->node());
      Add(welcome->incarnation());
      Add(welcome->lease_pages());
      Add(static_cast<uint64_t>(welcome->access()));
      Add(welcome->format_epoch());
    } else if (const auto* grant = message.body_as<format::GrantReply>()) {
      Add(grant->grant());
      Add(grant->generation());
      Add(grant->incarnation());
      Add(grant->offset());
      Add(grant->size_bytes());
    } else if (const auto* page = message.body_as<format::LeasePageReply>()) {
      Add(page->page());
    } else if (const auto* lease = message.body_as<format::LeaseReply>()) {
      Add(lease->cell());
    } else if (const auto* sealed = message.body_as<format::SealReply>()) {
      Add(sealed->object());
      Add(sealed->version());
    } else if (const auto* bound = message.body_as<format::BindReply>()) {
      Add(bound->epoch());
      Add(bound->sequence());
    } else if (const auto* committed = message.body_as<format::CommitReply>()) {
      Add(committed->superseded());
    }
  }

  void ReadNodeBody(const format::Message& message) {
    if (const auto* hello = message.body_as<format::NodeHello>()) {
      Add(hello->protocol_version());
      Add(hello->cluster_id());
      Add(hello->node());
      Add(hello->incarnation());
      Add(hello->format_epoch());
      Add(hello->peer_format_epoch());
    } else if (const auto* bind = message.body_as<format::BindRequest>()) {
      Add(bind->name());
      Add(bind->object());
      Add(bind->replace());
      Add(bind->expected_version());
    } else if (const auto* commit = message.body_as<format::CommitRequest>()) {
      Add(commit->name());
      Add(commit->object());
      Add(commit->epoch());
      Add(commit->sequence());
    } else if (const auto* unbind = message.body_as<format::UnbindRequest>()) {
      Add(unbind->name());
      Add(unbind->object());
    } else if (const auto* forget = message.body_as<format::ForgetNodeRequest>()) {
      Add(forget->node());
    }
  }

  uint64_t sum_ = 0;
};

}  // namespace sheaf::fuzz
