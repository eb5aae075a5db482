// Schema <-> preorder vector of field nodes.
//
// Types without children travel as format strings of the Arrow C data interface and are
// imported by Arrow itself. Trees are put together here and not by `arrow::ImportSchema`,
// which renames the fields of maps, cuts names at a zero byte, refuses run ends within
// run ends and recurses.

#pragma once

#include <memory>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/type_fwd.h>
#include <flatbuffers/flatbuffers.h>

#include "codec/codec.h"
#include "format/descriptor_generated.h"

namespace sheaf::codec {

using FieldNodeOffset = flatbuffers::Offset<format::FieldNode>;
using KeyValueOffsets =
    flatbuffers::Offset<flatbuffers::Vector<flatbuffers::Offset<format::KeyValue>>>;

/// \brief Append the columns of `schema` in preorder to `nodes`, their contents to
/// `builder`. NotImplemented names the column whose type cannot be told; Invalid if it is
/// nested too deeply; CapacityError if `builder` would outgrow a descriptor.
arrow::Status EncodeFields(const arrow::Schema& schema,
                           flatbuffers::FlatBufferBuilder* builder,
                           std::vector<FieldNodeOffset>* nodes);

/// \brief Nothing if `metadata` is null.
arrow::Result<KeyValueOffsets> EncodeMetadata(const arrow::KeyValueMetadata* metadata,
                                              flatbuffers::FlatBufferBuilder* builder);

/// \brief The schema in `table`, which the FlatBuffers verifier has passed. An extension
/// type that is not registered in this process becomes its storage, with name and data in
/// the field's metadata, as in all of Arrow's transports; one that is named there and
/// registered is made. Invalid or NotImplemented names the column. `descriptor_size`
/// bounds what the text may take. With `kStorageOnly` extension types are left out.
arrow::Result<std::shared_ptr<arrow::Schema>> DecodeSchema(
    const format::TableDescriptor& table, size_t descriptor_size, Extensions extensions);

}  // namespace sheaf::codec
