// Tests of the codec: tables in an arena, and the calls that describe them.

#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include <arrow/buffer.h>
#include <arrow/result.h>
#include <arrow/table.h>
#include <gtest/gtest.h>

#include "codec/codec.h"
#include "testing/arena.h"

namespace sheaf::testing {

class CodecFixture : public ::testing::Test {
 protected:
  using Columns = std::optional<std::vector<int>>;

  codec::LocateFn Locate() const {
    return [this](const uint8_t* address, int64_t size) {
      return arena_.Locate(address, size);
    };
  }

  codec::SegmentSizeFn SegmentSize() const {
    return [this](SegmentId segment) { return arena_.SegmentSize(segment); };
  }

  codec::BufferFn MakeBuffer() const {
    return [this](GlobalAddress address, int64_t size) {
      return arena_.BufferAt(address, size);
    };
  }

  arrow::Result<std::shared_ptr<const codec::Descriptor>> Describe(
      std::shared_ptr<arrow::Buffer> bytes) const {
    return codec::Descriptor::Make(std::move(bytes), SegmentSize());
  }

  /// Of a table that lies in the arena.
  arrow::Result<std::shared_ptr<const codec::Descriptor>> Describe(
      const arrow::Table& table) const {
    ARROW_ASSIGN_OR_RAISE(auto bytes, codec::Encode(table, Locate()));
    return Describe(std::move(bytes));
  }

  /// There and back while no byte of the arena can be touched.
  arrow::Result<std::shared_ptr<arrow::Table>> RoundTrip(const arrow::Table& table,
                                                         const Columns& columns = {}) {
    arena_.Protect(true);
    auto decoded = [&]() -> arrow::Result<std::shared_ptr<arrow::Table>> {
      ARROW_ASSIGN_OR_RAISE(auto descriptor, Describe(table));
      return descriptor->ToTable(MakeBuffer(), columns);
    }();
    arena_.Protect(false);
    return decoded;
  }

  Arena arena_;
};

}  // namespace sheaf::testing
