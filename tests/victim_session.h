// What the victim of a kill matrix does until it dies: all that a session can.

#pragma once

#include <cstdint>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/table.h>
#include <arrow/util/key_value_metadata.h>

#include "sheaf/sheaf.h"
#include "tests/seeded_table.h"
#include "tests/victim_memory.h"
#include "tests/victim_parts.h"

namespace sheaf::testing {

constexpr const char* kVictimNames = "victim/";  ///< What it puts; the test removes it.
/// Tables of one row that the victim leases all at once: more than two lease pages hold.
constexpr const char* kManyNames = "many/";
constexpr int kMany = 1020;

/// \brief What to open of a table. Of one of many its columns one by one, which notes
/// down nothing for the node: so many notes would push each other out, and nobody could
/// tell how often a session invalidates.
inline arrow::Result<Handle> HandleOf(const TableInfo& info) {
  if (!info.name.starts_with(kManyNames)) return info.handle;
  std::vector<uint32_t> all(static_cast<size_t>(info.num_columns));
  std::iota(all.begin(), all.end(), 0);
  return info.handle.Select(all);
}

/// \brief All steps of a session: it leases, puts, keeps, drops and builds whatever can
/// be, at both nodes, meets what is gone or refused, and closes. Invalid if anything is
/// not as it should be.
class VictimSession {
 public:
  static arrow::Status Run(const std::string& cluster, uint32_t node) {
    ARROW_ASSIGN_OR_RAISE(auto store, Connect(cluster, node));
    VictimSession session(std::move(store));
    ARROW_RETURN_NOT_OK(session.UseOtherHome(cluster));
    return session.Steps(cluster);
  }

  /// \brief All steps of a session that may only read: it leases as much, of both homes,
  /// meets a handle of no object, lets go of all, and closes.
  static arrow::Status Read(const std::string& cluster, uint32_t node) {
    ARROW_ASSIGN_OR_RAISE(auto store, Connect(cluster, node));
    VictimSession session(std::move(store));
    ARROW_RETURN_NOT_OK(session.OpenOthers());
    ARROW_RETURN_NOT_OK(session.MeetOneThatIsNotThere());
    return session.Close();
  }

 private:
  // Nobody waits for a daemon that is being started but who has a session there.
  static arrow::Result<std::shared_ptr<Store>> Connect(const std::string& cluster,
                                                       uint32_t node) {
    auto store = Store::Connect({cluster, node});
    while (IsDisconnected(store.status())) store = Store::Connect({cluster, node});
    return store;
  }

  static uint32_t OtherThan(uint32_t node) { return node == 0 ? 1 : 0; }

  explicit VictimSession(std::shared_ptr<Store> store) : store_(std::move(store)) {}

  arrow::Status Steps(const std::string& cluster) {
    ARROW_RETURN_NOT_OK(OpenOthers());
    ARROW_RETURN_NOT_OK(PutOthers());
    ARROW_RETURN_NOT_OK(store_->Put(kNamed, *SeededTable(1, 500)).status());
    ARROW_RETURN_NOT_OK(ShareAndDrop());
    ARROW_RETURN_NOT_OK(
        store_
            ->Put(kNamed, *SeededTable(3, 700), {.replace = true, .expected_version = {}})
            .status());
    ARROW_RETURN_NOT_OK(KeepSlice(kNamed));
    ARROW_RETURN_NOT_OK(store_->Remove(kNamed));
    ARROW_ASSIGN_OR_RAISE(built_, UseOtherMemory(store_.get()));
    ARROW_ASSIGN_OR_RAISE(const auto other, Connect(cluster, OtherThan(store_->node())));
    ARROW_RETURN_NOT_OK(PutVictimParts(store_, other));
    ARROW_RETURN_NOT_OK(store_->Put(kLeft, *SeededTable(4, 900)).status());
    ARROW_RETURN_NOT_OK(store_->Share(*SeededTable(5, 300)).status());
    if (store_->ForgetNode(store_->node()).IsInvalid()) return Close();
    return arrow::Status::Invalid("forgot its own node");
  }

  arrow::Status Close() {
    ARROW_RETURN_NOT_OK(CheckSlices());
    built_.reset();
    slices_.clear();
    many_.clear();
    store_.reset();
    return {};
  }

  arrow::Status KeepSlice(const std::string& name) {
    ARROW_ASSIGN_OR_RAISE(const auto table, store_->Get(name));
    ARROW_RETURN_NOT_OK(CheckSeededTable(*table));
    slices_.push_back(table->Slice(kSliceOffset, kSliceRows));
    return arrow::Status::OK();
  }

  arrow::Status OpenOthers() {
    ARROW_ASSIGN_OR_RAISE(const auto infos, store_->List());
    for (const TableInfo& info : infos) {
      if (info.name.starts_with(kVictimNames)) continue;
      if (!info.name.starts_with(kManyNames)) {
        ARROW_RETURN_NOT_OK(KeepSlice(info.name));
        continue;
      }
      ARROW_ASSIGN_OR_RAISE(const Handle handle, HandleOf(info));
      ARROW_ASSIGN_OR_RAISE(auto table, store_->Open(handle));
      many_.push_back(std::move(table));
    }
    if (many_.size() == kMany) return arrow::Status::OK();
    return arrow::Status::Invalid("opened ", many_.size(), " of ", kMany);
  }

  // Tables of both homes: the bytes of one of them are another's.
  arrow::Status PutOthers() {
    for (const std::string of : {"0", "1"}) {
      const std::string name = kOtherNames + of;
      ARROW_ASSIGN_OR_RAISE(const auto table, store_->Get("base/" + of));
      ARROW_ASSIGN_OR_RAISE(const PutReceipt receipt, store_->Put(name, *table));
      if (receipt.bytes_copied != 0) return arrow::Status::Invalid("bytes were copied");
      ARROW_RETURN_NOT_OK(store_->Remove(name));
    }
    return arrow::Status::OK();
  }

  // What a second session makes on the other node, this one keeps, replaces and ends.
  arrow::Status UseOtherHome(const std::string& cluster) const {
    ARROW_ASSIGN_OR_RAISE(const auto other, Connect(cluster, OtherThan(store_->node())));
    ARROW_RETURN_NOT_OK(other->Put(kReplaced, *SeededTable(6, 100)).status());
    ARROW_ASSIGN_OR_RAISE(const PutReceipt shared, other->Share(*SeededTable(7, 100)));
    ARROW_RETURN_NOT_OK(store_->Keep(shared.handle));
    ARROW_RETURN_NOT_OK(store_
                            ->Put(kReplaced, *SeededTable(8, 100),
                                  {.replace = true, .expected_version = {}})
                            .status());
    ARROW_RETURN_NOT_OK(store_->Drop(shared.handle));
    return store_->Remove(kReplaced);
  }

  arrow::Status ShareAndDrop() {
    auto built = SeededTable(2, 600, store_->memory_pool());
    ARROW_ASSIGN_OR_RAISE(const PutReceipt receipt, store_->Share(*built));
    if (receipt.bytes_copied != 0) return arrow::Status::Invalid("built, but copied");
    ARROW_ASSIGN_OR_RAISE(auto opened, store_->Open(receipt.handle));
    ARROW_RETURN_NOT_OK(CheckSeededTable(*opened));
    ARROW_RETURN_NOT_OK(store_->Keep(receipt.handle));
    ARROW_RETURN_NOT_OK(store_->Drop(receipt.handle));
    ARROW_RETURN_NOT_OK(CheckSeededTable(*opened));
    opened.reset();
    built.reset();
    const arrow::Status gone = store_->Open(receipt.handle).status();
    if (IsStaleGeneration(gone)) return arrow::Status::OK();
    return arrow::Status::Invalid("opened what was dropped: ", gone.ToString());
  }

  arrow::Status MeetOneThatIsNotThere() const {
    ARROW_ASSIGN_OR_RAISE(const TableInfo info, store_->Stat("base/0"));
    Handle handle = info.handle;
    ++handle.object.generation;
    const arrow::Status gone = store_->Open(handle).status();
    if (IsStaleGeneration(gone)) return arrow::Status::OK();
    return arrow::Status::Invalid("opened what is not there: ", gone.ToString());
  }

  arrow::Status CheckSlices() const {
    for (const auto& slice : slices_) {
      const auto& metadata = *slice->schema()->metadata();
      ARROW_ASSIGN_OR_RAISE(const std::string seed, metadata.Get("seed"));
      ARROW_ASSIGN_OR_RAISE(const std::string rows, metadata.Get("rows"));
      const auto whole = SeededTable(std::stoull(seed), std::stoll(rows));
      if (!slice->Equals(*whole->Slice(kSliceOffset, kSliceRows))) {
        return arrow::Status::Invalid("a slice of the table of seed ", seed, " differs");
      }
    }
    return arrow::Status::OK();
  }

  static constexpr const char* kNamed = "victim/named";
  static constexpr const char* kReplaced = "victim/replaced";
  static constexpr const char* kOtherNames = "victim/of";
  static constexpr const char* kLeft = "victim/left";
  static constexpr int64_t kSliceOffset = 37, kSliceRows = 50;
  std::shared_ptr<Store> store_;
  std::shared_ptr<arrow::Table> built_;
  std::vector<std::shared_ptr<arrow::Table>> slices_, many_;
};

}  // namespace sheaf::testing
