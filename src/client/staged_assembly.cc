#include "client/staged_assembly.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <arrow/chunked_array.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/table.h>
#include <arrow/type.h>

#include "base/fault_point.h"
#include "client/put.h"
#include "client/reader.h"
#include "client/session.h"
#include "client/staging.h"
#include "codec/codec.h"
#include "sheaf/store.h"
#include "sheaf/types.h"

namespace sheaf::client {
namespace {

using arrow::Status;
using SessionPtr = std::shared_ptr<Session>;

std::string Describe(const arrow::Field& field) {
  return "'" + field.name() + "' of type " + field.type()->ToString() +
         (field.nullable() ? "" : ", not null");
}

/// The pieces of a table in their order: shared as they are, no byte is looked at.
class Assembly {
 public:
  Status Add(const OpenObject& open) {
    ARROW_ASSIGN_OR_RAISE(auto table, open.ToTable({}, DataUse::kShare));
    if (tables_.empty()) {
      columns_.resize(static_cast<size_t>(table->num_columns()));
      schema_ = table->schema();
    }
    for (size_t i = 0; i < columns_.size(); ++i) {
      const auto& chunks = table->column(static_cast<int>(i))->chunks();
      columns_[i].insert(columns_[i].end(), chunks.begin(), chunks.end());
    }
    num_rows_ += table->num_rows();
    const bool has_checksums = open.descriptor().has_checksums();
    all_have_checksums_ = all_have_checksums_ && has_checksums;
    any_has_checksums_ = any_has_checksums_ || has_checksums;
    tables_.push_back(std::move(table));
    return open.descriptor().VisitBuffers(
        [&](const GlobalRange& range, std::optional<uint64_t> checksum) {
          if (checksum) checksums_.emplace(range, *checksum);
          return Status::OK();
        });
  }

  std::shared_ptr<arrow::Table> Table() const {
    arrow::ChunkedArrayVector columns;
    for (size_t i = 0; i < columns_.size(); ++i) {
      columns.push_back(std::make_shared<arrow::ChunkedArray>(
          columns_[i], schema_->field(static_cast<int>(i))->type()));
    }
    return arrow::Table::Make(schema_, std::move(columns), num_rows_);
  }

  bool all_have_checksums() const { return all_have_checksums_; }
  bool any_has_checksums() const { return any_has_checksums_; }

  /// What the pieces' own descriptors say.
  std::map<GlobalRange, uint64_t> TakeChecksums() { return std::move(checksums_); }

 private:
  std::shared_ptr<arrow::Schema> schema_;
  std::vector<arrow::ArrayVector> columns_;
  std::vector<std::shared_ptr<arrow::Table>> tables_;
  std::map<GlobalRange, uint64_t> checksums_;
  int64_t num_rows_ = 0;
  bool all_have_checksums_ = true;
  bool any_has_checksums_ = false;
};

}  // namespace

std::string SchemaDifference(const arrow::Schema& mine, const arrow::Schema& other) {
  const int num_fields = std::min(mine.num_fields(), other.num_fields());
  for (int i = 0; i < num_fields; ++i) {
    if (mine.field(i)->Equals(*other.field(i), /*check_metadata=*/false)) continue;
    return "field " + std::to_string(i) + " is " + Describe(*mine.field(i)) + ", not " +
           Describe(*other.field(i));
  }
  if (mine.num_fields() == other.num_fields()) return "";
  const arrow::Schema& longer = mine.num_fields() > num_fields ? mine : other;
  return "field " + std::to_string(num_fields) + ", " +
         Describe(*longer.field(num_fields)) + ", is " +
         (&longer == &mine ? "one too many" : "missing");
}

std::vector<codec::Part> PartsOf(const OpenObject& open) {
  std::vector<codec::Part> parts = open.descriptor().parts();
  if (!parts.empty()) return parts;
  const auto ranges = open.descriptor().Ranges();
  const SegmentId segment =
      ranges.empty() ? open.object().segment : ranges.front().begin.segment;
  return {{open.descriptor().num_rows(), 0, segment}};
}

arrow::Result<StagedTable> AssembleStaged(const SessionPtr& session,
                                          const std::string& name,
                                          const Staging& staging) {
  Assembly assembly;
  StagedTable staged;
  staged.publish.name = name;
  staged.publish.may_copy_foreign = false;
  std::shared_ptr<arrow::Schema> schema;
  if (staging.append) {
    ARROW_ASSIGN_OR_RAISE(const auto base, OpenName(session, name));
    staged.base_version = base.version();
    staged.publish.put = {.replace = true, .expected_version = base.version()};
    staged.publish.parts = PartsOf(base);
    schema = base.descriptor().schema();
    ARROW_RETURN_NOT_OK(assembly.Add(base));
  }
  for (const StagedEntry& entry : staging.entries) {
    ARROW_ASSIGN_OR_RAISE(const auto open, OpenObject::Open(session, entry.object));
    if (schema == nullptr) schema = open.descriptor().schema();
    const std::string difference = SchemaDifference(*open.descriptor().schema(), *schema);
    if (!difference.empty()) {
      return Status::Invalid("part ", entry.index, " of table '", name,
                             "' has another schema than the others: ", difference);
    }
    ARROW_RETURN_NOT_OK(assembly.Add(open));
    staged.publish.parts.push_back(
        {open.descriptor().num_rows(), staging.id, entry.object.segment});
  }
  staged.publish.put.checksum = assembly.all_have_checksums();
  staged.loses_checksums = assembly.any_has_checksums() && !assembly.all_have_checksums();
  staged.table = assembly.Table();
  staged.publish.known_checksum =
      [known = assembly.TakeChecksums()](
          const GlobalRange& range) -> std::optional<uint64_t> {
    const auto found = known.find(range);
    if (found == known.end()) return std::nullopt;
    return found->second;
  };
  return staged;
}

arrow::Result<PreparedTable> PrepareStaged(const SessionPtr& session,
                                           const std::string& name, Staging* staging) {
  ARROW_ASSIGN_OR_RAISE(StagedTable staged, AssembleStaged(session, name, *staging));
  staged.publish.is_prepared = true;
  PassFaultPoint("client.part.before-prepare");
  ARROW_ASSIGN_OR_RAISE(PutReceipt receipt, Put(session, *staged.table, staged.publish));
  PassFaultPoint("client.part.after-prepare");
  staging->candidate = StagedManifest{receipt.handle.object, staged.base_version};
  return PreparedTable{std::move(receipt), staged.loses_checksums};
}

}  // namespace sheaf::client
