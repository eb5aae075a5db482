// Name -> object: the leader's index (a cache over the slots) and one-sided look-up
// (PROTOCOL.md C1-C9).

#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "directory/directory.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::directory {

struct Version {
  uint32_t epoch = 0;
  uint32_t sequence = 0;  ///< What users see as `version`.
  auto operator<=>(const Version&) const = default;
};

/// \brief What a name leads to.
struct Found {
  ObjectId object;
  Version version;
};

/// \brief Find `name` one-sided: index of the highest epoch, then the slot (C7). Nothing
/// if absent. Names with equal hashes are told apart by the record's full name. Any
/// process; reads only.
arrow::Result<std::optional<Found>> Lookup(const region::Region& region,
                                           const std::string& name);

/// \brief Every bound name with its object, by scanning slots one-sided (truth, not the
/// index).
struct Listed {
  Found found;
  Record record;
};
arrow::Result<std::vector<Listed>> List(const region::Region& region);

/// \brief The leader's side. One per leader daemon, single-threaded. The index lies in
/// the leader's own record area.
class CatalogLeader {
 public:
  /// \brief Claim `epoch` and build the index by scanning the slots of all segments (C1,
  /// C2).
  static arrow::Result<std::unique_ptr<CatalogLeader>> Claim(const region::Region* region,
                                                             HomeDirectory* home,
                                                             uint32_t epoch);
  ~CatalogLeader();

  struct BindRequest {
    std::string name;
    ObjectId object;
    bool replace = false;
    std::optional<uint32_t>
        expected_sequence;  ///< Replace only this version (compare and swap).
  };
  /// \brief C3, C9: reserve the name, or the next version of it, for `request.object`.
  /// Idempotent. AlreadyExists if the name is bound to a live object and `replace` is not
  /// set; Invalid with reason version mismatch if `expected_sequence` is not current.
  arrow::Result<Version> Bind(const BindRequest& request);

  /// \brief The object is Bound in its slot: switch the index entry to it if its version
  /// is the highest. Returns the objects that are superseded and must now be retired by
  /// their homes (the previous one; or `object` itself if a higher version was committed
  /// before). Idempotent.
  arrow::Result<std::vector<ObjectId>> Commit(const std::string& name,
                                              const ObjectId& object, Version version);

  /// \brief The object's name is free again (removed, or its publish was abandoned).
  void Unbind(const std::string& name, const ObjectId& object);

  uint32_t epoch() const;

 private:
  class Impl;
  explicit CatalogLeader(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sheaf::directory
