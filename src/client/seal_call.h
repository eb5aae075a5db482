// The last step of a put: from ranges that are in memory to an object.

#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <arrow/buffer.h>
#include <arrow/result.h>
#include <arrow/status.h>

#include "client/session.h"
#include "sheaf/types.h"

namespace sheaf::client {

struct SealCall {
  SegmentId home;
  std::shared_ptr<arrow::Buffer> descriptor;
  std::string name = {};  ///< Empty: unnamed.
  bool replace = false;
  std::optional<uint32_t> expected_version = std::nullopt;
  bool keep = false;
  bool is_prepared = false;            ///< As PublishOptions.
  std::vector<ObjectId> parents = {};  ///< Whose bytes it shares.
};

struct Sealed {
  ObjectId object;
  uint32_t version = 0;
};

arrow::Result<Sealed> RequestSeal(Session& session, const SealCall& call);

/// \brief Unnamed objects of other homes than that of a table which is put: each holds
/// those of the table's bytes that this session has open there, so that the table can
/// refer to it (docs/protocol.md O4). They last as long as this; the table's home then
/// leases them.
class Holders {
 public:
  explicit Holders(Session* session) : session_(session) {}
  ~Holders();
  Holders(const Holders&) = delete;
  Holders& operator=(const Holders&) = delete;

  /// \brief Of those of `ranges`, all in `segment` and settled, that lie in no object
  /// this session leases; none if there are none. `parents` may have parts of them.
  arrow::Status Make(SegmentId segment, const std::vector<GlobalRange>& ranges,
                     const std::vector<ObjectId>& parents);

  const std::vector<ObjectId>& objects() const { return objects_; }

 private:
  Session* session_;
  std::vector<ObjectId> objects_;
};

}  // namespace sheaf::client
