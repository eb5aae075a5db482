#include "apps/sheaf/output.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <arrow/type.h>  // IWYU pragma: keep
#include <fmt/format.h>

#include "sheaf/store.h"

namespace sheaf::cli {
namespace {

constexpr std::string_view kEllipsis = "...";

// Does a character of UTF-8 text start at this byte?
bool StartsCharacter(char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }

// Characters of UTF-8 text: what a terminal shows, near enough for alignment.
size_t DisplayWidth(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), StartsCharacter));
}

void AppendCell(std::string* line, const std::string& text, size_t width, Align align,
                bool last) {
  const std::string padding(width - std::min(width, DisplayWidth(text)), ' ');
  if (align == Align::kRight) *line += padding + text;
  if (align == Align::kLeft) *line += last ? text : text + padding;
}

// A name or a value in a file may mean to speak to the terminal (control characters C0,
// DEL, and C1 as UTF-8 or as a bare byte).
std::string EscapeControl(std::string_view text) {
  const auto byte_at = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const auto is_c1 = [&](size_t i) {
    return i < text.size() && byte_at(i) >= 0x80 && byte_at(i) < 0xA0;
  };
  std::string line;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\n' || text[i] == '\r' || text[i] == '\t') {
      line += ' ';
    } else if (byte_at(i) < 0x20 || byte_at(i) == 0x7F ||
               (is_c1(i) && (i == 0 || byte_at(i - 1) < 0x80))) {
      line += fmt::format("\\x{:02X}", byte_at(i));
    } else if (byte_at(i) == 0xC2 && is_c1(i + 1)) {
      line += fmt::format("\\x{:02X}", byte_at(++i));
    } else {
      line += text[i];
    }
  }
  return line;
}

}  // namespace

std::string TextTable::ToString() const {
  std::vector<size_t> widths;
  widths.reserve(columns_.size());
  for (const Column& column : columns_) widths.push_back(DisplayWidth(column.heading));
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i)
      widths[i] = std::max(widths[i], DisplayWidth(row[i]));
  }
  std::string text;
  const auto append_row = [&](const auto& cell_of) {
    for (size_t i = 0; i < columns_.size(); ++i) {
      if (i > 0) text += "  ";
      AppendCell(&text, cell_of(i), widths[i], columns_[i].align,
                 i + 1 == columns_.size());
    }
    text += '\n';
  };
  append_row([&](size_t i) { return columns_[i].heading; });
  for (const auto& row : rows_) append_row([&](size_t i) { return row[i]; });
  return text;
}

std::string HumanCount(int64_t count) {
  const std::string digits = std::to_string(count);
  const size_t first = digits.find_first_of("0123456789");
  std::string text;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > first && (digits.size() - i) % 3 == 0) text += ' ';
    text += digits[i];
  }
  return text;
}

std::string HumanSeconds(double seconds) {
  if (seconds >= 1) return fmt::format("{:.2f} s", seconds);
  if (seconds >= 1e-3) return fmt::format("{:.1f} ms", seconds * 1e3);
  return fmt::format("{:.0f} us", seconds * 1e6);
}

namespace {

Json BytesOn(const std::map<uint32_t, int64_t>& bytes_on) {
  Json json = Json::object();
  for (const auto& [node, bytes] : bytes_on) json[std::to_string(node)] = bytes;
  return json;
}

}  // namespace

std::string HumanPlaces(const std::map<uint32_t, int64_t>& bytes_on) {
  std::string places;
  for (const auto& [node, bytes] : bytes_on) {
    places += fmt::format("{}{} on node {}", places.empty() ? "" : ", ",
                          HumanBytes(static_cast<uint64_t>(bytes)), node);
  }
  return places;
}

Json ToJson(const PutReceipt& receipt) {
  return {{"name", receipt.name},
          {"version", receipt.version},
          {"generation", receipt.handle.object.generation},
          {"rows", receipt.num_rows},
          {"bytes", receipt.bytes},
          {"bytes_shared", receipt.bytes_shared},
          {"bytes_copied", receipt.bytes_copied},
          {"bytes_flushed", receipt.bytes_flushed},
          {"bytes_on", BytesOn(receipt.bytes_on)},
          {"seconds", std::chrono::duration<double>(receipt.duration).count()}};
}

Json ToJson(const TableInfo& info) {
  Json json = {{"name", info.name},
               {"home_node", info.home_node},
               {"version", info.version},
               {"generation", info.handle.object.generation},
               {"rows", info.num_rows},
               {"columns", info.num_columns},
               {"chunks", info.num_chunks},
               {"bytes", info.bytes},
               {"checksums", info.has_checksums},
               {"leases", info.leases},
               {"created_unix_ns", info.created_unix_ns}};
  if (info.schema == nullptr) return json;
  json["bytes_on"] = BytesOn(info.bytes_on);
  json["schema"] = Json::array();
  for (const auto& field : info.schema->fields()) {
    json["schema"].push_back(
        {{"name", field->name()}, {"type", field->type()->ToString()}});
  }
  return json;
}

Json ToJson(const NodeInfo& node) {
  return {{"id", node.id},
          {"state", node.state},
          {"leads_catalog", node.is_leader},
          {"incarnation", node.incarnation},
          {"heartbeat_age_ms",
           node.heartbeat_age_ms ? Json(*node.heartbeat_age_ms) : Json(nullptr)},
          {"backend", node.backend},
          {"coherence", node.coherence},
          {"page_size", node.page_bytes},
          {"size_bytes", node.size_bytes},
          {"used_bytes", node.used_bytes},
          {"free_bytes", node.free_bytes},
          {"largest_free_bytes", node.largest_free_bytes},
          {"sessions", node.sessions},
          {"objects", node.objects}};
}

std::string ToUtf8(std::string_view text) {
  const std::string quoted =
      Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
  return Json::parse(quoted).get<std::string>();
}

std::string OneLine(std::string_view text, size_t width_max) {
  std::string line = ToUtf8(EscapeControl(text));
  if (DisplayWidth(line) <= width_max) return line;
  const size_t kept = width_max - std::min(width_max, kEllipsis.size());
  size_t characters = 0;
  const auto cut = std::find_if(line.begin(), line.end(), [&](char c) {
    return StartsCharacter(c) && ++characters > kept;
  });
  line.erase(cut, line.end());
  return line += kEllipsis;
}

void PrintText(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
}

void PrintJson(const Json& json) {
  PrintText(json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

}  // namespace sheaf::cli
