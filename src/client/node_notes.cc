#include "client/node_notes.h"

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include <arrow/result.h>
#include <arrow/status.h>

#include "format/checksum.h"
#include "platform/file.h"
#include "platform/shared_word.h"
#include "sheaf/types.h"

namespace sheaf::client {
namespace {

constexpr uint64_t kNotes = uint64_t{1} << 16;
constexpr uint64_t kNotesBytes = kNotes * sizeof(uint64_t);

/// The whole generation goes in, and with it the format epoch of the segment (L3).
uint64_t HashOf(const ObjectId& object, int column) {
  const std::array<uint64_t, 4> key = {object.segment.value, object.slot,
                                       object.generation, static_cast<uint64_t>(column)};
  return format::Checksum({reinterpret_cast<const uint8_t*>(key.data()), sizeof(key)});
}

}  // namespace

arrow::Result<std::unique_ptr<NodeNotes>> NodeNotes::Open(const std::string& path) {
  auto created = platform::CreateFile(path, kNotesBytes);
  platform::UniqueFd fd;
  if (created.ok()) {
    fd = std::move(created).ValueUnsafe();
  } else if (created.status().IsAlreadyExists()) {
    ARROW_ASSIGN_OR_RAISE(fd, platform::OpenFile(path, platform::Access::kReadWrite));
  } else {
    return created.status();
  }
  // Two creators may race: whoever is first sizes it, allocation makes it whole for both.
  ARROW_RETURN_NOT_OK(platform::AllocateFileRange(fd.get(), 0, kNotesBytes));
  ARROW_ASSIGN_OR_RAISE(
      auto mapping,
      platform::Mapping::Map(fd.get(), kNotesBytes, platform::Access::kReadWrite));
  return std::unique_ptr<NodeNotes>(new NodeNotes(std::move(mapping)));
}

arrow::Result<std::unique_ptr<NodeNotes>> NodeNotes::MakePrivate() {
  ARROW_ASSIGN_OR_RAISE(const platform::UniqueFd fd,
                        platform::MakeUnnamedFile("sheaf-notes", kNotesBytes));
  ARROW_ASSIGN_OR_RAISE(
      auto mapping,
      platform::Mapping::Map(fd.get(), kNotesBytes, platform::Access::kReadWrite));
  return std::unique_ptr<NodeNotes>(new NodeNotes(std::move(mapping)));
}

bool NodeNotes::IsSet(const ObjectId& object, int column) const {
  const uint64_t hash = HashOf(object, column);
  // pairs with the release in Set: whoever sees the note also sees the invalidated lines.
  return platform::SharedWord(Word(hash)).LoadAcquire() == hash;
}

void NodeNotes::Set(const ObjectId& object, int column) {
  const uint64_t hash = HashOf(object, column);
  platform::SharedWord(Word(hash)).StoreRelease(hash);
}

uint64_t* NodeNotes::Word(uint64_t hash) const {
  static_assert(kNotes == uint64_t{1} << 16);
  return reinterpret_cast<uint64_t*>(mapping_.data()) + (hash >> 48);
}

}  // namespace sheaf::client
