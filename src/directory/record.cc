#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <arrow/buffer.h>
#include <arrow/device.h>
#include <arrow/memory_pool.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <flatbuffers/flatbuffers.h>

#include "base/math.h"
#include "directory/directory.h"
#include "directory/record_limits.h"
#include "format/layout.h"
#include "format/record_generated.h"
#include "format/struct_alignment.h"
#include "sheaf/types.h"

namespace sheaf::directory {
namespace {

/// As much as any scalar of a descriptor (FlatBuffers too) needs.
constexpr size_t kDescriptorAlignment = 16;

arrow::Status CheckCounts(const Record& record) {
  if (record.num_rows < 0 || record.num_columns < 0 || record.num_chunks < 0 ||
      record.data_bytes < 0) {
    return arrow::Status::Invalid("record has a negative count");
  }
  if (record.own_ranges.size() > kRangesMax) {
    return arrow::Status::Invalid("record lists ", record.own_ranges.size(),
                                  " ranges, at most ", kRangesMax, " are allowed");
  }
  if (record.references.size() > kReferencesMax) {
    return arrow::Status::Invalid("record refers to ", record.references.size(),
                                  " objects, at most ", kReferencesMax, " are allowed");
  }
  if (record.descriptor && record.descriptor->size() > kDescriptorSizeMax) {
    return arrow::Status::Invalid("descriptor has ", record.descriptor->size(),
                                  " bytes, at most ", kDescriptorSizeMax, " are allowed");
  }
  return arrow::Status::OK();
}

arrow::Status CheckRanges(const std::vector<GlobalRange>& ranges) {
  uint64_t end = 0;
  for (const GlobalRange& range : ranges) {
    if (range.begin.segment != ranges.front().begin.segment) {
      return arrow::Status::Invalid("record lists ranges of two segments");
    }
    if (range.size_bytes == 0 || !IsAligned(range.begin.offset, format::kGranuleBytes) ||
        !IsAligned(range.size_bytes, format::kGranuleBytes) ||
        range.end_offset() < range.begin.offset) {
      return arrow::Status::Invalid(
          "record lists range ", range.begin.offset, "+", range.size_bytes,
          ", which is not made of granules of ", format::kGranuleBytes, " bytes");
    }
    if (range.begin.offset < end) {
      return arrow::Status::Invalid("ranges of a record are not sorted and disjoint at ",
                                    range.begin.offset);
    }
    end = range.end_offset();
  }
  return arrow::Status::OK();
}

arrow::Status CheckReferences(const Record& record) {
  if (!record.reference_extents.empty() &&
      record.reference_extents.size() != record.references.size()) {
    return arrow::Status::Invalid("record has ", record.reference_extents.size(),
                                  " extents of ", record.references.size(), " objects");
  }
  for (const ObjectId& id : record.references) {
    if (id.segment.value >= format::kNodesMax || id.slot >= format::kSlotsMax ||
        (id.generation & format::kGenerationLowMask) == 0) {
      return arrow::Status::Invalid("record refers to impossible object ",
                                    id.segment.value, ":", id.slot, "@", id.generation);
    }
  }
  return arrow::Status::OK();
}

/// What holds for every record, stored or about to be.
arrow::Status CheckRecord(const Record& record) {
  if (!record.name.empty()) ARROW_RETURN_NOT_OK(ValidateName(record.name));
  ARROW_RETURN_NOT_OK(CheckCounts(record));
  ARROW_RETURN_NOT_OK(CheckRanges(record.own_ranges));
  return CheckReferences(record);
}

flatbuffers::Offset<format::StoredRecord> Build(const Record& record,
                                                flatbuffers::FlatBufferBuilder* builder) {
  std::vector<format::StoredRange> ranges;
  ranges.reserve(record.own_ranges.size());
  for (const GlobalRange& range : record.own_ranges) {
    ranges.emplace_back(range.begin.offset, range.size_bytes);
  }
  std::vector<format::StoredReference> references;
  references.reserve(record.references.size());
  for (const ObjectId& id : record.references) {
    references.emplace_back(id.generation, id.segment.value, id.slot);
  }
  std::vector<format::StoredRange> extents;
  extents.reserve(record.reference_extents.size());
  for (const GlobalRange& extent : record.reference_extents) {
    extents.emplace_back(extent.begin.offset, extent.size_bytes);
  }
  const uint8_t* descriptor = record.descriptor ? record.descriptor->data() : nullptr;
  const size_t descriptor_size =
      record.descriptor ? CheckedCast<size_t>(record.descriptor->size()) : 0;
  builder->ForceVectorAlignment(descriptor_size, 1, kDescriptorAlignment);
  const auto stored_descriptor = builder->CreateVector(descriptor, descriptor_size);
  const auto stored_ranges = builder->CreateVectorOfStructs(ranges);
  const auto stored_references = builder->CreateVectorOfStructs(references);
  flatbuffers::Offset<flatbuffers::Vector<const format::StoredRange*>> stored_extents;
  if (!extents.empty()) stored_extents = builder->CreateVectorOfStructs(extents);
  const auto name = builder->CreateString(record.name);
  const uint32_t home =
      record.own_ranges.empty() ? 0 : record.own_ranges.front().begin.segment.value;
  return format::CreateStoredRecord(
      *builder, name, record.creator_session, record.created_unix_ns, record.num_rows,
      record.num_columns, record.num_chunks, record.data_bytes, home, stored_ranges,
      stored_references, stored_descriptor, record.creator_request, record.has_checksums,
      record.creator_user, stored_extents, record.home_incarnation);
}

template <typename T>
size_t SizeOf(const flatbuffers::Vector<T>* vector) {
  return vector == nullptr ? 0 : vector->size();
}

/// The fields of a verified buffer; `bytes` stays alive as the descriptor's parent.
Record Import(const format::StoredRecord& stored,
              const std::shared_ptr<arrow::Buffer>& bytes) {
  Record record;
  if (stored.name() != nullptr) record.name = stored.name()->str();
  record.creator_session = stored.creator_session();
  record.creator_request = stored.creator_request();
  record.creator_user = stored.creator_user();
  record.created_unix_ns = stored.created_unix_ns();
  record.num_rows = stored.num_rows();
  record.num_columns = stored.num_columns();
  record.num_chunks = stored.num_chunks();
  record.data_bytes = stored.data_bytes();
  record.has_checksums = stored.has_checksums();
  record.home_incarnation = stored.home_incarnation();
  if (const auto* ranges = stored.own_ranges()) {
    record.own_ranges.reserve(ranges->size());
    for (const format::StoredRange* range : *ranges) {
      record.own_ranges.push_back(
          {{{stored.home_segment()}, range->offset()}, range->size_bytes()});
    }
  }
  if (const auto* references = stored.references()) {
    record.references.reserve(references->size());
    for (const format::StoredReference* id : *references) {
      record.references.push_back({{id->segment()}, id->slot(), id->generation()});
    }
  }
  if (const auto* extents = stored.reference_extents()) {
    record.reference_extents.reserve(extents->size());
    for (const format::StoredRange* extent : *extents) {
      const SegmentId segment =
          record.references[record.reference_extents.size()].segment;
      record.reference_extents.push_back(
          {{segment, extent->offset()}, extent->size_bytes()});
    }
  }
  record.descriptor =
      arrow::SliceBuffer(bytes, stored.descriptor()->data() - bytes->data(),
                         int64_t{stored.descriptor()->size()});
  return record;
}

}  // namespace

arrow::Result<std::shared_ptr<arrow::Buffer>> EncodeRecord(const Record& record) {
  ARROW_RETURN_NOT_OK(CheckRecord(record));
  flatbuffers::FlatBufferBuilder builder;
  builder.FinishSizePrefixed(Build(record, &builder), format::StoredRecordIdentifier());
  ARROW_ASSIGN_OR_RAISE(
      auto bytes, arrow::AllocateBuffer(builder.GetSize(), arrow::system_memory_pool()));
  std::memcpy(bytes->mutable_data(), builder.GetBufferPointer(), builder.GetSize());
  return std::shared_ptr<arrow::Buffer>(std::move(bytes));
}

arrow::Result<Record> DecodeRecord(std::shared_ptr<arrow::Buffer> bytes) {
  if (bytes->size() < kRecordSizeMin || bytes->size() > kRecordSizeMax) {
    return arrow::Status::Invalid("a record has ", kRecordSizeMin, " to ", kRecordSizeMax,
                                  " bytes, this one ", bytes->size());
  }
  if (!IsAligned(bytes->address(), kDescriptorAlignment)) {
    ARROW_ASSIGN_OR_RAISE(
        bytes, arrow::MemoryManager::CopyBuffer(
                   bytes, arrow::CPUDevice::memory_manager(arrow::system_memory_pool())));
  }
  const auto size = CheckedCast<size_t>(bytes->size());
  if (flatbuffers::GetPrefixedSize(bytes->data()) != size - kRecordPrefixBytes ||
      !flatbuffers::BufferHasIdentifier(bytes->data(), format::StoredRecordIdentifier(),
                                        /*size_prefixed=*/true)) {
    return arrow::Status::Invalid("bytes are not a record: wrong size or identifier");
  }
  flatbuffers::Verifier verifier(bytes->data(), size);
  if (!format::VerifySizePrefixedStoredRecordBuffer(verifier)) {
    return arrow::Status::Invalid("record is malformed");
  }
  const auto* stored = format::GetSizePrefixedStoredRecord(bytes->data());
  if (stored->descriptor() == nullptr) {
    return arrow::Status::Invalid("record without a descriptor");
  }
  if (SizeOf(stored->own_ranges()) > kRangesMax ||
      SizeOf(stored->references()) > kReferencesMax) {
    return arrow::Status::Invalid("record lists too many ranges or objects");
  }
  const size_t num_extents = SizeOf(stored->reference_extents());
  if (num_extents != 0 && num_extents != SizeOf(stored->references())) {
    return arrow::Status::Invalid("record has ", num_extents, " extents of ",
                                  SizeOf(stored->references()), " objects");
  }
  if (!format::IsAligned(stored->own_ranges()) ||
      !format::IsAligned(stored->references()) ||
      !format::IsAligned(stored->reference_extents())) {
    return arrow::Status::Invalid("record with misaligned structs");
  }
  Record record = Import(*stored, bytes);
  ARROW_RETURN_NOT_OK(CheckRecord(record));
  return record;
}

}  // namespace sheaf::directory
