// The store: tables in the cluster's shared memory, opened anywhere by name or handle.

#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/type_fwd.h>

#include "sheaf/handle.h"
#include "sheaf/info.h"  // IWYU pragma: export
#include "sheaf/put.h"   // IWYU pragma: export
#include "sheaf/types.h"

namespace sheaf {

namespace client {
class Session;
}
struct ConnectOptions {
  std::string cluster;  ///< Name; empty: $SHEAF_CLUSTER, else "default".
  /// Through which node of this host; else $SHEAF_NODE, else the first of this host.
  std::optional<uint32_t> node;
  bool relocate = false;  ///< Do not map at the cluster's base address (tests).
};

/// \brief How far `Get` and `Open` look at the data before they return it.
enum class Validation : uint8_t {
  kNone,  ///< Descriptor only: no data byte is read. Enough where writers are trusted.
  /// Also that all data can be read, its checksums if there are any, and
  /// `Table::ValidateFull`: use it across trust borders.
  kFull,
};

struct GetOptions {
  /// Names, in this order; all when absent.
  std::optional<std::vector<std::string>> columns;
  std::optional<uint32_t> version;  ///< Must be the current one, else "version mismatch".
  Validation validate = Validation::kNone;
};

class TableWriter;

/// \brief One process' session with its node. Thread-safe; close it by dropping the last
/// reference. Tables that were opened stay valid after that, until their own last buffer
/// dies. Not to be used in a forked child: connect again there. A child may read on in
/// tables that it inherited, and drop them: neither that nor its end touches what is its
/// parent's. Tables that were open at a fork stay leased until this session is over (its
/// store and tables dropped, or its process ended) and no such child is left.
class Store {
 public:
  /// \brief Attach to a running cluster. Disconnected (IOError) if no daemon of that node
  /// runs here; the message says how to start one.
  static arrow::Result<std::shared_ptr<Store>> Connect(
      const ConnectOptions& options = {});
  ~Store();

  /// \brief Publish `table` as `name`. Buffers that already lie in the region (built in
  /// `memory_pool()`, or opened from it, also slices) are shared; all others are copied
  /// there once. AlreadyExists without `replace`; OutOfMemory says what is needed, free,
  /// and the largest free range once nothing of this put is left there; NotImplemented
  /// names the column of an unknown type, reason damaged one whose memory fails under the
  /// copy; Invalid for a bad name. After any error the name is what it was and nothing is
  /// left behind; after reason disconnected or node lost nobody knows.
  arrow::Result<PutReceipt> Put(const std::string& name, const arrow::Table& table,
                                const PutOptions& options = {});
  /// \brief Publish all batches of `reader`; each is copied or shared as it comes (see
  /// TableWriter::Append). An error of the reader is passed on; nothing is left behind.
  arrow::Result<PutReceipt> Put(const std::string& name, arrow::RecordBatchReader* reader,
                                const PutOptions& options = {});
  /// \brief A table that grows batch by batch and becomes visible when sealed.
  arrow::Result<std::unique_ptr<TableWriter>> NewWriter(
      const std::string& name, std::shared_ptr<arrow::Schema> schema,
      const PutOptions& options = {});

  /// \brief The table over the very bytes that its writer wrote: nothing is copied, and
  /// no message is sent unless the session may only read. It is leased until its last
  /// buffer dies. KeyError if there is no such name or column; the message says so if it
  /// is a table in parts that are not all there. Reason damaged if its memory was found
  /// to fail, which raises SIGBUS where a program reads such bytes by itself
  /// (docs/damaged-memory.md).
  arrow::Result<std::shared_ptr<arrow::Table>> Get(const std::string& name,
                                                   const GetOptions& options = {});
  /// \brief Unbind the name, abort parts that wait under it (sheaf/parts.h), reclaim the
  /// memory when the last lease ends. KeyError if there is neither. Reason node lost if
  /// the leader, or the home of any version of it, does not answer, or does not get on;
  /// the message says what to do: the table may be there still, repeat the call then.
  arrow::Status Remove(const std::string& name);
  /// \brief All named tables of the cluster, by name: a snapshot of each, not of all at
  /// one time. No table is opened. IOError if the memory of a node cannot be read.
  arrow::Result<std::vector<TableInfo>> List();
  /// \brief As `List`, of one table. KeyError if there is no such name; Invalid for a bad
  /// one; IOError with reason damaged if bytes that it shares with others are gone.
  arrow::Result<TableInfo> Stat(const std::string& name);
  /// \brief Compare all data of a table, as memory holds it now, with the checksums that
  /// were stored when it was put. IOError with reason damaged names column, chunk, field
  /// and buffer of the first that differs or cannot be read; Invalid if none were stored.
  arrow::Status Verify(const std::string& name);
  /// \brief Of the whole object, whatever rows and columns `handle` names.
  arrow::Status Verify(const Handle& handle);
  /// \brief Return once `name` can be opened; reason timeout if it cannot within
  /// `timeout`.
  arrow::Status Wait(const std::string& name, std::chrono::milliseconds timeout);

  /// \brief Publish without a name. The object goes when this session ends or drops it
  /// and no lease is left, unless kept. OutOfMemory and NotImplemented as for `Put`;
  /// nothing is left behind then.
  arrow::Result<PutReceipt> Share(const arrow::Table& table,
                                  const ShareOptions& options = {});
  /// \brief Open what `handle` names, on any node. Reason stale generation if it is gone.
  arrow::Result<std::shared_ptr<arrow::Table>> Open(
      const Handle& handle, Validation validate = Validation::kNone);
  /// \brief End an unnamed object; who has it open keeps it. OK if it is gone already.
  /// Invalid if it has a name (see `Remove`), or for a handle of another cluster.
  arrow::Status Drop(const Handle& handle);
  /// \brief Let an unnamed object outlive its session, until `Drop`. Reason stale
  /// generation if it is gone; Invalid if it has a name, which keeps it anyway, or for a
  /// handle of another cluster.
  arrow::Status Keep(const Handle& handle);

  /// \brief Builds in shared memory: what is allocated here needs no copy to be put.
  /// Thread-safe; valid as long as any buffer from it or this store lives.
  arrow::MemoryPool* memory_pool();
  /// \brief The same in the memory of `node`, which is asked for coarse extents only:
  /// what is built here is put there (`PutOptions::on`) without a copy, and, from there,
  /// opened by all. Its allocations fail with OutOfMemory, naming the node, when that is
  /// full; with reason node lost while it is down or does not honour this store's node.
  /// Invalid if the cluster has no such node; reason node lost if it never was up. With
  /// `spill`, what does not fit there goes to nodes that have room
  /// (`PutOptions::spill`).
  arrow::Result<arrow::MemoryPool*> memory_pool(uint32_t node, bool spill = false);

  /// \brief All configured nodes, by number; one whose memory is not there is "down".
  /// IOError or Invalid, naming it, if a node's memory is there and cannot be used.
  arrow::Result<std::vector<NodeInfo>> Nodes();
  /// \brief Say that `node` is powered off, or cut from the memory, for good: what it
  /// read keeps no table any more. Only true words are safe: a node that lives would read
  /// memory that others reuse. Invalid if its heart beats, or it is the store's own node;
  /// IOError with reason node lost names a node that could not be told: say it again when
  /// that is back. One that was forgotten itself is not told, nor waited for: the same. A
  /// node that was forgotten may come back, once its processes are ended.
  arrow::Status ForgetNode(uint32_t node);
  /// \brief The node through which this store is connected.
  uint32_t node() const;
  /// \brief Drawn when the cluster was started; handles carry it.
  uint64_t cluster_id() const;

 private:
  class Impl;
  explicit Store(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
  friend class TableWriter;
  friend std::shared_ptr<client::Session> SessionOf(const Store& store);
};

/// \brief Appends batches to a table that nobody sees until `Seal`. One thread at a time.
/// Destroyed unsealed, it leaves nothing behind.
class TableWriter {
 public:
  ~TableWriter();
  /// \brief Copies or shares the batch; it becomes one chunk of every column. A private
  /// `Buffer` of an earlier batch that still lives, such as that of a dictionary, is
  /// taken to hold the same bytes and not copied again; it is not kept alive. Invalid if
  /// the schema differs from the writer's. After an error, OutOfMemory too, the writer is
  /// as before: append something else, seal what there is, or drop it.
  arrow::Status Append(const arrow::RecordBatch& batch);
  /// \brief Publish what was appended. The writer is then closed, also after an error:
  /// nothing is published then and what was appended is given back, but after reason
  /// disconnected nobody knows whether it was published.
  arrow::Result<PutReceipt> Seal();

 private:
  class Impl;
  explicit TableWriter(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
  friend class Store;
};

}  // namespace sheaf
