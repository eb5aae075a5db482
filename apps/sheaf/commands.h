// What each command of `sheaf` does once its arguments are parsed. Every one prints its
// result to standard output, as text or (with `json`) as JSON, and returns the error that
// main prints.

#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <arrow/status.h>

#include "sheaf/cluster.h"

namespace sheaf::cli {

constexpr int kExitError = 1;  ///< Of the program, when a command fails.

/// \brief Options that go before or after any command.
struct Global {
  std::string cluster;
  std::optional<uint32_t> node;
  bool json = false;
};

arrow::Status Up(const Global& global, const ClusterOptions& options);
arrow::Status Down(const Global& global, bool keep, bool force);
arrow::Status ForgetNode(const Global& global, uint32_t node);
arrow::Status Nodes(const Global& global);
/// Of all nodes of this host, or of the one that is chosen; their daemons must not run.
arrow::Status Fsck(const Global& global, bool repair);

/// What this machine offers, and what is wrong: with it, with the cluster's daemons and
/// memory. Without a cluster the machine only. With `device` that device as well, or with
/// `config_file` the devices of that file, which are looked at and not written. IOError
/// if anything is wrong.
struct DoctorArguments {
  std::string device;
  std::string config_file;
};
arrow::Status Doctor(const Global& global, const DoctorArguments& arguments);

/// Makes the segment of one node in its device, whose daemon must not run.
struct FormatArguments {
  std::string config_file;
  uint32_t node = 0;
  bool force = false;  ///< Whatever is there.
};
arrow::Status Format(const Global& global, const FormatArguments& arguments);

struct PutArguments {
  std::string name;
  std::string file;
  bool replace = false;
  bool checksum = false;       ///< Store checksums of the data, for Verify.
  std::optional<uint32_t> on;  ///< In whose memory; else that of the session's node.
  bool spill = false;          ///< What does not fit there goes to other nodes.
};
arrow::Status Put(const Global& global, const PutArguments& arguments);

struct PartArguments {
  std::optional<uint32_t> part;  ///< Nothing: the file is a whole table.
  uint32_t of = 1;
  bool split = false;  ///< The part is that share of the file's rows, not all of them.
  bool append = false;
  double wait_seconds = 0;
  std::optional<double> deadline_seconds;
};
/// The file becomes one part of the table.
arrow::Status PutPart(const Global& global, const PutArguments& arguments,
                      const PartArguments& part);
/// Of the table `name`; of all puts that miss parts, if that is empty.
arrow::Status Parts(const Global& global, const std::string& name);
arrow::Status Abort(const Global& global, const std::string& name);
arrow::Status Barrier(const Global& global, const std::string& name, uint32_t n,
                      double timeout_seconds);

/// Writes `file`, in the format its suffix says; it appears whole or not at all.
arrow::Status Get(const Global& global, const std::string& name, const std::string& file);
arrow::Status Head(const Global& global, const std::string& name, int64_t num_rows);
arrow::Status List(const Global& global);
arrow::Status Stat(const Global& global, const std::string& name);
arrow::Status Remove(const Global& global, const std::string& name);
arrow::Status Wait(const Global& global, const std::string& name, double timeout_seconds);
/// Reads all data and compares it with the checksums stored at put, if any; checks every
/// offset, index and length (Table::ValidateFull); prints a checksum of each column's
/// values, however they lie in memory. The error names what is damaged or not valid.
arrow::Status Verify(const Global& global, const std::string& name);

/// The fault points of client and daemon (base/fault_point.h). Needs no cluster.
arrow::Status Faults(const Global& global);

}  // namespace sheaf::cli
