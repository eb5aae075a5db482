// What lies where in a segment's control and leases parts: fixed-width little-endian
// structs that every node of a cluster of this version agrees on. docs/format.md is
// normative; a golden file in tests/data/ holds each layout.

#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <type_traits>

#include "format/lease_cell.h"  // IWYU pragma: export

namespace sheaf::format {

static_assert(std::endian::native == std::endian::little,
              "all shared layouts are little-endian; big-endian hosts are not supported");

constexpr uint32_t kFormatVersion = 3;
constexpr uint64_t kSegmentMagic = 0x4745534641454853;  // "SHEAFSEG"

/// Lines of different writers lie so far apart (pair prefetch, 128-byte lines; L1).
constexpr uint64_t kWriterSpacing = 256;
constexpr uint64_t kLineBytes = 64;      ///< Size of a slot, grant, index entry.
constexpr uint64_t kGranuleBytes = 256;  ///< Unit of division of an extent (L8).
constexpr uint64_t kExtentBytes = uint64_t{2} << 20;  ///< Usual unit of a grant (L8).
constexpr uint64_t kSmallExtentBytes = 65536;         ///< When memory is low (L8).
constexpr uint64_t kLeasePageBytes = 4096;
constexpr uint64_t kRingBytes = uint64_t{256} << 10;  ///< Lines to one peer (L7).
constexpr uint64_t kLeaseCellsPerPage = (kLeasePageBytes - kLineBytes) / 8;  ///< 504

/// \brief First 256 bytes of the control part; written once, when it is formatted.
struct SegmentHeader {
  uint64_t magic;
  uint32_t version;
  uint32_t segment;       ///< Also the id of the home node.
  uint64_t cluster_id;    ///< Random; equal in all segments of a cluster.
  uint64_t format_epoch;  ///< Rises with each formatting; high half of generations (L3).
  uint64_t base_address;  ///< Where processes try to map the data part.
  uint64_t control_size_bytes;
  uint64_t leases_size_bytes;
  uint64_t data_size_bytes;
  uint32_t nodes_max;
  uint32_t slots_max;
  uint32_t grants_max;
  uint32_t lease_pages_max;
  uint64_t records_size_bytes;
  uint64_t created_unix_seconds;
  uint32_t user_id;
  uint32_t coherence;       ///< 0 coherent, 1 software.
  uint64_t agreement_hash;  ///< ClusterConfig::AgreementHash.
  uint64_t reserved[17];
  uint64_t checksum;  ///< XXH3 over all bytes before.
};
static_assert(sizeof(SegmentHeader) == 256 &&
              std::has_unique_object_representations_v<SegmentHeader>);

/// \brief Lines that a node's daemon writes about itself, each `kWriterSpacing` from the
/// next (L4).
enum class NodeLine : uint32_t {
  kIncarnation = 0,   ///< IncarnationLine
  kHeartbeat = 1,     ///< one word that rises
  kCatalogEpoch = 2,  ///< two words: highest catalog epoch this node claimed, 0 none;
                      ///< highest sequence of a removed name that it knows of
  kStatistics = 3,    ///< StatisticsLine
  kIndexHeader = 4,   ///< IndexHeaderLine
  kCount = 16,
};

enum class NodeState : uint32_t { kDown = 0, kUp = 1 };

struct IncarnationLine {
  uint64_t incarnation;
  uint32_t state;  ///< NodeState
  uint32_t daemon_process_id;
  uint64_t slots_used;        ///< High-water mark: slots [0, slots_used) may be in use.
  uint64_t lease_pages_used;  ///< High-water mark of the session page table.
  uint64_t daemon_starts;     ///< Rises with each daemon: high half of session ids.
  uint64_t boot;              ///< Hash of the boot id of the host that wrote it last.
  uint64_t reserved;
  uint64_t checksum;
};
static_assert(sizeof(IncarnationLine) == kLineBytes);

struct StatisticsLine {
  uint64_t used_bytes;  ///< Granted (less what its sessions gave back) or sealed.
  uint64_t free_bytes;
  uint64_t largest_free_bytes;
  uint32_t sessions;
  uint32_t objects;
  uint64_t backing_page_bytes;
  uint64_t reserved[2];
  uint64_t checksum;
};
static_assert(sizeof(StatisticsLine) == kLineBytes);

/// \brief State of a slot (objects) or grant line. Busy: being updated, read again.
enum class LineState : uint8_t {
  kFree = 0,
  kBusy = 1,
  kOwned = 2,    ///< grants only
  kSealed = 3,   ///< readable by handle; a named one is not yet visible by name
  kBound = 4,    ///< visible by name
  kRetired = 5,  ///< invisible; lives until the last lease ends
  kDisused = 6,  ///< its generations are used up
};

enum SlotFlags : uint8_t {
  kSlotNamed = 1,      ///< Named objects are readable only when Bound.
  kSlotKept = 2,       ///< An unnamed object that outlives its creating session.
  kSlotLost = 4,       ///< Disused: the line was damaged, what it held is not known.
  kSlotPrepared = 16,  ///< Sealed under its name, and not put yet: as an unnamed one.
  kSlotLeaving = 8,    ///< Bound, and about to be removed: nobody may replace just it.
};

/// \brief Directory slot of one object, one line (L2). Written by the home daemon alone.
struct Slot {
  uint8_t state;  ///< LineState
  uint8_t flags;  ///< SlotFlags
  uint16_t reserved0;
  uint32_t record_size_bytes;
  uint64_t generation;
  uint64_t record_offset;  ///< From the start of the record area.
  uint64_t name_hash;      ///< XXH3 of the name; 0 when unnamed.
  uint32_t version_sequence;
  uint32_t version_epoch;
  uint64_t record_checksum;  ///< XXH3 of the record's bytes.
  uint32_t prepared_flags;   ///< Sealed and prepared: `flags` once more. Else 0.
  uint32_t remover;          ///< Retired, Free: by which request; 0: by none.
  uint64_t checksum;         ///< XXH3 of the bytes before.
};
static_assert(sizeof(Slot) == kLineBytes);

/// \brief One extent that one session may write, one line (L2, L10). Its home writes it.
struct Grant {
  uint8_t state;  ///< LineState: kFree, kBusy or kOwned
  uint8_t reserved0[3];
  uint32_t owner_node;
  uint64_t owner_incarnation;
  uint64_t owner_session;
  uint64_t generation;
  uint64_t extent_offset;
  uint64_t extent_size_bytes;
  uint64_t owner_request;  ///< Of a guest session: by which it was asked for. Else 0.
  uint64_t checksum;
};
static_assert(sizeof(Grant) == kLineBytes);

/// \brief One name of the catalog's index, one line (L6). A hint: the slot is the truth.
struct IndexEntry {
  uint64_t epoch;  ///< Of the leader that wrote it.
  uint64_t name_hash;
  uint64_t generation;
  uint32_t home;
  uint32_t slot;
  uint32_t version_sequence;
  uint32_t version_epoch;
  uint8_t state;  ///< 0 never used (ends a probe), 1 bound, 2 removed (a probe goes on)
  uint8_t reserved0[7];
  uint64_t reserved1;
  uint64_t checksum;
};
static_assert(sizeof(IndexEntry) == kLineBytes);

/// \brief Where the leader's index lies in its own record area (L6).
struct IndexHeaderLine {
  uint64_t epoch;             ///< For which it was built; 0 none.
  uint64_t table_offset;      ///< From the start of the record area.
  uint64_t capacity_entries;  ///< A power of two.
  uint64_t build;  ///< Rises with each table of the epoch: a place may be used again.
  uint64_t reserved[3];
  uint64_t checksum;
};
static_assert(sizeof(IndexHeaderLine) == kLineBytes);

}  // namespace sheaf::format
