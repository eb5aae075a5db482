#include "codec/codec.h"

#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <arrow/array/array_base.h>
#include <arrow/array/data.h>
#include <arrow/array/util.h>
#include <arrow/buffer.h>
#include <arrow/chunked_array.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <arrow/util/key_value_metadata.h>
#include <gtest/gtest.h>

#include "testing/arena.h"
#include "testing/arrow_test.h"
#include "testing/random_array.h"
#include "testing/tables.h"

namespace sheaf::codec {
namespace {

using arrow::field;
using testing::AreIdentical;
using testing::Arena;
using testing::NamedTable;

/// Encodes and decodes tables that lie in an arena.
class Codec : public ::testing::Test {
 protected:
  arrow::Result<std::shared_ptr<arrow::Buffer>> EncodeIt(
      const arrow::Table& table) const {
    return Encode(table, [&](const uint8_t* address, int64_t size) {
      return arena_.Locate(address, size);
    });
  }

  arrow::Result<std::shared_ptr<const Descriptor>> Describe(
      std::shared_ptr<arrow::Buffer> bytes) const {
    return Descriptor::Make(
        std::move(bytes), [&](SegmentId segment) { return arena_.SegmentSize(segment); });
  }

  arrow::Result<std::shared_ptr<const Descriptor>> Describe(
      const arrow::Table& table) const {
    ARROW_ASSIGN_OR_RAISE(auto bytes, EncodeIt(table));
    return Describe(std::move(bytes));
  }

  BufferFn MakeBuffer() const {
    return [&](GlobalAddress address, int64_t size) {
      return arena_.BufferAt(address, size);
    };
  }

  /// There and back while no byte of the arena can be touched.
  arrow::Result<std::shared_ptr<arrow::Table>> RoundTrip(const arrow::Table& table) {
    arena_.Protect(true);
    auto decoded = [&]() -> arrow::Result<std::shared_ptr<arrow::Table>> {
      ARROW_ASSIGN_OR_RAISE(auto descriptor, Describe(table));
      return descriptor->ToTable(MakeBuffer());
    }();
    arena_.Protect(false);
    return decoded;
  }

  Arena arena_;
};

TEST_F(Codec, EveryTypeRoundTripsWithoutTouchingData) {
  for (const NamedTable& named : testing::AllTypesTableVariants()) {
    SCOPED_TRACE(named.name);
    arena_.Clear();
    const auto table = arena_.CopyIn(*named.table);
    ASSERT_OK_AND_ASSIGN(const auto decoded, RoundTrip(*table));
    ASSERT_TRUE(AreIdentical(*named.table, *decoded));
    ASSERT_TRUE(arena_.Holds(*decoded));
  }
}

}  // namespace
}  // namespace sheaf::codec
