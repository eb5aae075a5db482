// Which files make the three parts of a segment, and how a process may open them: the one
// place where backends differ.

#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include <arrow/result.h>
#include <arrow/status.h>

#include "platform/file.h"
#include "region/cluster_config.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::region {

/// \brief Path of a part; with backend sim, of its truth.
std::string PartPath(const ClusterConfig& config, SegmentId segment, PartKind kind);

/// \brief The file of a part, for a process of `options.node` with the rights of
/// `options.role`: its own descriptor, of which others know nothing. KeyError if there is
/// none. With backend sim the truth, which is for its size only. With devices that of the
/// whole device, and IOError if there is none.
arrow::Result<platform::UniqueFd> OpenPartFile(const ClusterConfig& config,
                                               const AttachOptions& options,
                                               SegmentId segment, PartKind kind);

/// \brief Bytes of the part that `file`, from OpenPartFile, is for. Of a window: what the
/// cluster file says.
arrow::Result<uint64_t> PartFileSize(const ClusterConfig& config, SegmentId segment,
                                     PartKind kind, int file);

/// \brief Map one part for a process of `options.node` with the rights of `options.role`.
/// Takes `file`, the one that OpenPartFile gives.
arrow::Result<std::unique_ptr<Part>> MapPart(const ClusterConfig& config,
                                             const AttachOptions& options,
                                             SegmentId segment, PartKind kind,
                                             platform::UniqueFd file,
                                             uint64_t size_bytes);

/// \brief OpenPartFile and MapPart.
arrow::Result<std::unique_ptr<Part>> OpenPart(const ClusterConfig& config,
                                              const AttachOptions& options,
                                              SegmentId segment, PartKind kind,
                                              uint64_t size_bytes);

/// \brief True for the name of a file that CreatePart makes in a segment's folder.
bool IsPartFile(std::string_view file_name);

/// \brief Create the files of one part, all zero. With backend sim: the truth, image and
/// shadow of each node, and what they share. Not with devices: these are there.
arrow::Status CreatePart(const ClusterConfig& config, SegmentId segment, PartKind kind,
                         uint64_t size_bytes);

}  // namespace sheaf::region
