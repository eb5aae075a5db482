// Text for people and JSON for programs.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

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

std::string HumanBytes(uint64_t bytes);    ///< "1.2 GiB"
std::string HumanCount(int64_t count);     ///< "6 001 215"
std::string HumanSeconds(double seconds);  ///< "3.1 ms"

Json ToJson(const PutReceipt& receipt);
Json ToJson(const TableInfo& info);
Json ToJson(const NodeInfo& node);

void PrintJson(const Json& json);

}  // namespace sheaf::cli
