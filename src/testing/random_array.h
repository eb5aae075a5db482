// Arrays of any type with random contents that pass `ValidateFull`.

#pragma once

#include <cstdint>
#include <memory>
#include <random>

#include <arrow/type_fwd.h>

namespace sheaf::testing {

/// \brief Same numbers from the same seed, on every platform and with every standard
/// library.
class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  uint64_t Next() { return engine_(); }
  /// In [0, `limit`), `limit` > 0.
  int64_t Below(int64_t limit) {
    return static_cast<int64_t>(Next() % static_cast<uint64_t>(limit));
  }
  bool OneIn(int64_t n) { return Below(n) == 0; }

 private:
  std::mt19937_64 engine_;
};

/// \brief How many nulls there are, in an array and below it.
enum class Nulls : uint8_t {
  kNone,  ///< No validity bitmap.
  kSome,  ///< About one in four.
  kAll,
};

/// \brief An array of `length` elements of `type`, every type that this Arrow has. All
/// buffers are allocated exactly once, from `pool`. Some children have offsets and
/// unknown null counts. No value is NaN, so equal arrays compare equal. Aborts on a type
/// it does not know.
std::shared_ptr<arrow::ArrayData> RandomArray(
    const std::shared_ptr<arrow::DataType>& type, int64_t length, Nulls nulls,
    Random* random, arrow::MemoryPool* pool);

}  // namespace sheaf::testing
