// One put from its arrays to its receipt, and what ends an object: shared by all that
// publish.

#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/type_fwd.h>

#include "client/publisher.h"
#include "client/session.h"
#include "sheaf/store.h"
#include "sheaf/types.h"

namespace sheaf::client {

/// \brief Publish what `fill` puts into a publisher. When that fails all of it is given
/// back, before the error says what is free.
arrow::Result<PutReceipt> Put(const std::shared_ptr<Session>& session,
                              const std::shared_ptr<arrow::Schema>& schema,
                              const PublishOptions& options,
                              const std::function<arrow::Status(Publisher*)>& fill);

arrow::Result<PutReceipt> Put(const std::shared_ptr<Session>& session,
                              const arrow::Table& table, const PublishOptions& options);

/// \brief `status` of what was to go into a table at `home`. If that takes `needed_bytes`
/// (not 0), which are not there, it says what to do.
arrow::Status ExplainPut(const Session& session, const arrow::Status& status,
                         const PublishOptions& options, int64_t needed_bytes,
                         SegmentId home);

/// \brief What allocates in the memory of `node` (the own one if absent), and of others
/// when that is full, with `spill`.
arrow::Result<arrow::MemoryPool*> PoolOf(Session& session,
                                         const std::optional<uint32_t>& node, bool spill);

/// \brief Of a table that is to lie in the memory of a node.
arrow::Result<std::unique_ptr<Publisher>> MakePublisher(
    const std::shared_ptr<Session>& session, std::shared_ptr<arrow::Schema> schema,
    const PublishOptions& options);

/// \brief Remove exactly this object; its name, or "" if it has none. Reason stale
/// generation if it is gone.
arrow::Status Retire(Session& session, const ObjectId& object, const std::string& name);

/// \brief End an unnamed object. OK if it is gone already.
arrow::Status Drop(Session& session, const ObjectId& object);

/// \brief Make visible what was put as prepared; its version. However often it is asked
/// for, once: reason stale generation if it was visible and is not any more, or was
/// dropped. AlreadyExists or reason version mismatch if the name refuses it: it stays
/// prepared.
arrow::Result<uint32_t> PublishPrepared(Session& session, const ObjectId& object,
                                        const std::string& name, bool replace,
                                        uint32_t expected_version);

/// \brief Let an unnamed object outlive its session. Reason stale generation if it is
/// gone.
arrow::Status Keep(Session& session, const ObjectId& object);

}  // namespace sheaf::client
