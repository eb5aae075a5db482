// The bytes that a fuzz target is given, taken apart from the front.

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <type_traits>

namespace sheaf::fuzz {

/// \brief Borrows the input. Beyond its end there are zeros, so that a golden file, or a
/// seed cut short, is an input too.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : rest_(data, size) {}

  bool empty() const { return rest_.empty(); }

  /// \brief The next `size_bytes`, or what is left.
  std::span<const uint8_t> Take(size_t size_bytes) {
    const auto taken = rest_.first(std::min(size_bytes, rest_.size()));
    rest_ = rest_.subspan(taken.size());
    return taken;
  }
  std::span<const uint8_t> TakeRest() { return Take(rest_.size()); }
  std::string TakeText() {
    const auto rest = TakeRest();
    return {reinterpret_cast<const char*>(rest.data()), rest.size()};
  }

  template <typename T>
  T Next() {
    static_assert(std::is_trivially_copyable_v<T>);
    T value{};
    const auto bytes = Take(sizeof(T));
    if (!bytes.empty()) std::memcpy(&value, bytes.data(), bytes.size());
    return value;
  }

 private:
  std::span<const uint8_t> rest_;
};

}  // namespace sheaf::fuzz
