// Text for people and JSON for programs.

#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "client/wording.h"
#include "sheaf/store.h"

namespace sheaf::cli {

using Json = nlohmann::ordered_json;

enum class Align : uint8_t { kLeft, kRight };

/// \brief Columns under headings, as wide as their widest cell.
class TextTable {
 public:
  struct Column {
    std::string heading;
    Align align = Align::kLeft;
  };
  explicit TextTable(std::vector<Column> columns) : columns_(std::move(columns)) {}
  void AddRow(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  std::string ToString() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

using client::HumanBytes;
std::string HumanCount(int64_t count);     ///< "6 001 215"
std::string HumanSeconds(double seconds);  ///< "3.1 ms"
/// "1.0 MiB on node 0, 512 B on node 2"
std::string HumanPlaces(const std::map<uint32_t, int64_t>& bytes_on);

Json ToJson(const PutReceipt& receipt);
Json ToJson(const TableInfo& info);
Json ToJson(const NodeInfo& node);

/// \brief `text` with what is not UTF-8 in it replaced.
std::string ToUtf8(std::string_view text);

/// \brief `text` in valid UTF-8, with spaces for line breaks and tabs, other control
/// characters escaped, cut to `width_max` characters.
std::string OneLine(std::string_view text,
                    size_t width_max = std::numeric_limits<size_t>::max());

/// To standard output. Whether all of it could be written, main asks once at the end.
void PrintText(std::string_view text);
void PrintJson(const Json& json);

}  // namespace sheaf::cli
