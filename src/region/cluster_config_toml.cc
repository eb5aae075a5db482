// Reads the cluster file: strict, so that a mistyped key is an error and not a silent
// default.

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <ios>
#include <iterator>
#include <limits>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>

#include "region/etcd_config.h"

namespace {

/// What malformed text breaks of the things that toml++ 3.3 takes for granted
/// (marzer/tomlplusplus#294: "[&"). Thrown out of its parser, and caught right around it.
struct BrokenAssertion {};

constexpr void ThrowUnless(bool claim) {
  if (!claim) throw BrokenAssertion();
}

}  // namespace

#define TOML_EXCEPTIONS 0
#define TOML_ASSERT(claim) ThrowUnless(static_cast<bool>(claim))
// Else toml++ has the compiler assume what it asserts.
#pragma push_macro("NDEBUG")
#undef NDEBUG
#include <toml++/toml.h>
#pragma pop_macro("NDEBUG")

#include "format/layout.h"
#include "region/cluster_config.h"

namespace sheaf::region {
namespace {

/// Any 64-bit number: a TOML integer has 63 bits, a "0x" string all of them.
arrow::Result<uint64_t> ParseNumber(const std::string& text) {
  uint64_t value = 0;
  const bool hexadecimal = text.starts_with("0x");
  const char* begin = text.data() + (hexadecimal ? 2 : 0);
  const char* end = text.data() + text.size();
  const auto result = std::from_chars(begin, end, value, hexadecimal ? 16 : 10);
  if (result.ec == std::errc() && result.ptr == end) return value;
  return arrow::Status::Invalid("'", text, "' is not a number of 64 bits");
}

/// \brief Reads one table key by key, remembers which were asked for, and keeps the first
/// error.
class TableReader {
 public:
  TableReader(const toml::table& table, std::string file_name, std::string prefix)
      : table_(table), file_name_(std::move(file_name)), prefix_(std::move(prefix)) {}

  void Read(const char* key, bool* value) {
    const toml::node* node = Find(key);
    if (node == nullptr) return;
    if (const auto found = node->value_exact<bool>()) {
      *value = *found;
    } else {
      Fail(*node, key, "must be true or false");
    }
  }

  void Read(const char* key, std::string* value) {
    const toml::node* node = Find(key);
    if (node == nullptr) return;
    if (const auto found = node->value_exact<std::string>()) {
      *value = *found;
    } else {
      Fail(*node, key, "must be a string");
    }
  }

  /// What is an integer at all is looked at later; what is none is told the range.
  template <typename Integer>
  void ReadInteger(const char* key, Integer* value,
                   Integer least = std::numeric_limits<Integer>::min(),
                   Integer most = std::numeric_limits<Integer>::max()) {
    const toml::node* node = Find(key);
    if (node == nullptr) return;
    const auto found = node->value_exact<int64_t>();
    if (found && std::in_range<Integer>(*found)) {
      *value = static_cast<Integer>(*found);
    } else {
      Fail(*node, key,
           "must be an integer in " + std::to_string(least) + " .. " +
               std::to_string(most));
    }
  }

  /// A string that `parse` understands, or a non-negative integer.
  template <typename Parse>
  void ReadParsed(const char* key, uint64_t* value, Parse parse) {
    const toml::node* node = Find(key);
    if (node == nullptr) return;
    const auto number = node->value_exact<int64_t>();
    if (number && *number >= 0) {
      *value = static_cast<uint64_t>(*number);
    } else if (node->is_string()) {
      ReadText(*node, key, value, parse);
    } else {
      Fail(*node, key, "must be a string or a non-negative integer");
    }
  }

  template <typename Enum, typename Parse>
  void ReadEnum(const char* key, Enum* value, Parse parse) {
    const toml::node* node = Find(key);
    if (node == nullptr) return;
    if (node->is_string()) {
      ReadText(*node, key, value, parse);
    } else {
      Fail(*node, key, "must be a string");
    }
  }

  /// The tables `[[key]]`, in the order of the file.
  std::vector<const toml::table*> ReadTables(const char* key) {
    std::vector<const toml::table*> tables;
    const toml::node* node = Find(key);
    if (node == nullptr) return tables;
    if (!node->is_array_of_tables()) {
      Fail(*node, key, "must be tables, each below a line [[" + std::string(key) + "]]");
      return tables;
    }
    for (const toml::node& table : *node->as_array()) tables.push_back(table.as_table());
    return tables;
  }

  /// A key that must be there.
  void Require(const char* key) {
    if (!table_.contains(key)) Fail(table_, key, "is missing");
  }

  const toml::table* ReadTable(const char* key) {
    const toml::node* node = Find(key);
    if (node == nullptr) return nullptr;
    if (!node->is_table()) Fail(*node, key, "must be a table");
    return node->as_table();
  }

  /// The first error; an unknown key is one.
  arrow::Status Finish() {
    for (const auto& [key, node] : table_) {
      if (!asked_.contains(key.str())) {
        Fail(key.source(), std::string(key.str()), "is not a known key");
      }
    }
    return status_;
  }

 private:
  const toml::node* Find(const char* key) {
    asked_.insert(key);
    return table_.get(key);
  }

  template <typename Value, typename Parse>
  void ReadText(const toml::node& node, const char* key, Value* value, Parse parse) {
    const auto parsed = parse(**node.as_string());
    if (parsed.ok()) {
      *value = *parsed;
    } else {
      Fail(node, key, parsed.status().message());
    }
  }

  void Fail(const toml::node& node, const std::string& key, const std::string& why) {
    Fail(node.source(), key, why);
  }

  void Fail(const toml::source_region& place, const std::string& key,
            const std::string& why) {
    if (!status_.ok()) return;
    status_ = arrow::Status::Invalid(file_name_, ":", place.begin.line, ": ", prefix_,
                                     key, ": ", why);
  }

  const toml::table& table_;
  std::string file_name_;
  std::string prefix_;
  std::set<std::string, std::less<>> asked_;
  arrow::Status status_;
};

arrow::Status ReadSim(const toml::table& table, const std::string& file_name,
                      SimOptions* sim) {
  TableReader reader(table, file_name, "sim.");
  reader.Read("chaos", &sim->chaos);
  reader.Read("posted", &sim->posted);
  reader.ReadParsed("seed", &sim->seed, ParseNumber);
  reader.ReadInteger("line_bytes", &sim->line_bytes);
  return reader.Finish();
}

arrow::Status ReadEtcd(const toml::table& table, const std::string& file_name,
                       EtcdConfig* etcd) {
  TableReader reader(table, file_name, "etcd.");
  reader.Require("endpoints");
  reader.Read("endpoints", &etcd->access.endpoints);
  reader.Read("prefix", &etcd->prefix);
  reader.ReadInteger("time_to_live_s", &etcd->time_to_live_s);
  reader.Read("ca_file", &etcd->access.tls.ca_file);
  reader.Read("cert_file", &etcd->access.tls.cert_file);
  reader.Read("key_file", &etcd->access.tls.key_file);
  reader.Read("user", &etcd->access.user);
  reader.Read("password_file", &etcd->access.password_file);
  reader.Read("fence_command", &etcd->fence_command);
  return reader.Finish();
}

// `[[node]]`: the highest id says how many nodes there are, unless `nodes` does.
arrow::Status ReadNodes(const std::vector<const toml::table*>& tables, bool are_counted,
                        const std::string& file_name, ClusterConfig* config) {
  uint32_t end = 0;
  for (size_t i = 0; i < tables.size(); ++i) {
    TableReader reader(*tables[i], file_name, "node[" + std::to_string(i) + "].");
    NodeConfig node;
    reader.Require("id");
    reader.ReadInteger("id", &node.id);
    reader.ReadParsed("size", &node.segment_size_bytes, ParseSize);
    reader.Read("host", &node.host);
    reader.Read("address", &node.address);
    reader.Read("path", &node.path);
    reader.ReadParsed("offset", &node.offset_bytes, ParseSize);
    ARROW_RETURN_NOT_OK(reader.Finish());
    config->node_tables.push_back(node);
    if (node.id < format::kNodesMax) end = std::max(end, node.id + 1);
  }
  if (!are_counted && end > 0) config->nodes = end;
  return arrow::Status::OK();
}

arrow::Status ReadCluster(TableReader* reader, bool are_counted,
                          const std::string& file_name, ClusterConfig* config) {
  reader->Read("name", &config->name);
  reader->ReadParsed("cluster_id", &config->cluster_id, ParseNumber);
  reader->ReadEnum("backend", &config->backend, ParseBackend);
  reader->ReadEnum("coherence", &config->coherence, ParseCoherence);
  reader->ReadEnum("settle_class", &config->settle_class, ParseSettleClass);
  reader->ReadEnum("messages", &config->messages, ParseMessages);
  reader->ReadInteger("spin_us", &config->spin_us);
  reader->ReadInteger("posted_delay_us", &config->posted_delay_us);
  reader->ReadInteger("heartbeat_ms", &config->heartbeat_ms);
  reader->ReadInteger("suspect_after_ms", &config->suspect_after_ms);
  reader->ReadInteger("suspect_samples", &config->suspect_samples);
  reader->ReadParsed("base_address", &config->base_address, ParseNumber);
  reader->ReadInteger("nodes", &config->nodes, 1U, format::kNodesMax);
  reader->ReadInteger("nodes_max", &config->nodes_max, 1U, format::kNodesMax);
  reader->Read("memory_folder", &config->memory_folder);
  reader->Read("runtime_folder", &config->runtime_folder);
  reader->ReadParsed("segment_size", &config->segment_size_bytes, ParseSize);
  reader->ReadInteger("slots_max", &config->slots_max);
  reader->ReadInteger("lease_pages_max", &config->lease_pages_max);
  reader->ReadParsed("records_size", &config->records_size_bytes, ParseSize);
  reader->Read("prealloc", &config->prealloc);
  reader->Read("huge_pages", &config->huge_pages);
  reader->Read("group", &config->group);
  reader->Read("group_write", &config->group_write);
  reader->ReadParsed("session_quota", &config->session_quota_bytes, ParseSize);
  reader->ReadParsed("user_quota", &config->user_quota_bytes, ParseSize);
  const toml::table* sim = reader->ReadTable("sim");
  const auto nodes = reader->ReadTables("node");
  const toml::table* etcd = reader->ReadTable("etcd");
  ARROW_RETURN_NOT_OK(reader->Finish());
  if (etcd != nullptr) ARROW_RETURN_NOT_OK(ReadEtcd(*etcd, file_name, &config->etcd));
  ARROW_RETURN_NOT_OK(ReadNodes(nodes, are_counted, file_name, config));
  return sim == nullptr ? arrow::Status::OK() : ReadSim(*sim, file_name, &config->sim);
}

/// Nothing tells how the caches of hosts see a device, or a file in its place: who wrote
/// the file must.
arrow::Status CheckVisibilityIsDeclared(const ClusterConfig& config,
                                        const toml::table& table) {
  const bool is_device =
      config.backend == Backend::kDevdax || config.backend == Backend::kPci;
  if (!is_device && !(config.backend == Backend::kFile && config.UsesDevices())) {
    return arrow::Status::OK();
  }
  for (const char* key : {"coherence", "settle_class"}) {
    if (table.contains(key)) continue;
    return arrow::Status::Invalid(
        key, ": is missing: backend ", ToString(config.backend),
        is_device ? "" : " with a `path`",
        " works only as declared: coherence = \"software\" unless hardware keeps the "
        "hosts coherent, and settle_class (docs/protocol.md section 1), \"posted\" if "
        "unsure");
  }
  return arrow::Status::OK();
}

/// Validate's message begins with the key; adds file and line: of the key, or, if the
/// file does not have it, of the table that it belongs to.
arrow::Status AddPlace(const arrow::Status& status, const toml::table& table,
                       const std::string& file_name) {
  const std::string key = status.message().substr(0, status.message().find(':'));
  const toml::node* node = table.at_path(key).node();
  if (node == nullptr && key.find('.') != key.npos) {
    node = table.at_path(key.substr(0, key.rfind('.'))).node();
  }
  const std::string line =
      node == nullptr ? "" : std::to_string(node->source().begin.line) + ":";
  return status.WithMessage(file_name, ":", line, " ", status.message());
}

constexpr std::string_view kBlanks = " \t";

/// Size of the string that `text` begins with, its quotes included.
size_t SizeOfString(std::string_view text) {
  const char quote = text.front();
  for (size_t i = 1; i < text.size(); ++i) {
    if (text[i] == '\\' && quote == '"') {
      ++i;
    } else if (text[i] == quote) {
      return i + 1;
    }
  }
  return text.size();
}

/// `line` without the string that is its value, if it is one, and without its comment.
std::string WithoutTexts(std::string_view line) {
  std::string code;
  const size_t sign = line.find_first_of("=#\"'");
  if (sign != line.npos && line[sign] == '=') {
    const size_t value = line.find_first_not_of(kBlanks, sign + 1);
    if (value != line.npos && (line[value] == '"' || line[value] == '\'')) {
      code = line.substr(0, value);
      line.remove_prefix(value);
      line.remove_prefix(SizeOfString(line));
    }
  }
  // One that begins between quotes is none.
  const size_t mark = line.find_first_of("#\"'");
  const bool has_comment = mark != line.npos && line[mark] == '#';
  return code.append(line.substr(0, has_comment ? mark : line.npos));
}

/// Why toml++ must not see `line`; null if it may. Where its parser meets characters that
/// are not ASCII, but in the places that are left here, version 3.3 tells the compiler
/// that they do not come. No key has a use for what is refused.
const char* WhyRefused(std::string_view line) {
  if (line.find(R"(""")") != line.npos || line.find(R"(''')") != line.npos) {
    return "strings of several lines are not supported";
  }
  line.remove_prefix(std::min(line.find_first_not_of(" \t["), line.size()));  // a header
  const std::string code = WithoutTexts(line);
  if (code.find('[') != code.npos) return "arrays are not supported";
  const auto is_ascii = [](char c) { return static_cast<unsigned char>(c) < 0x80; };
  if (std::ranges::all_of(code, is_ascii)) return nullptr;
  return "only strings and comments may have characters that are not ASCII";
}

arrow::Status CheckText(std::string_view text, const std::string& file_name) {
  for (int number = 1; !text.empty(); ++number) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (const char* why = WhyRefused(line)) {
      return arrow::Status::Invalid(file_name, ":", number, ": ", why);
    }
  }
  return arrow::Status::OK();
}

arrow::Result<toml::table> Parse(const std::string& text, const std::string& file_name) {
  ARROW_RETURN_NOT_OK(CheckText(text, file_name));
  try {
    toml::parse_result parsed = toml::parse(text, file_name);
    if (parsed) return std::move(parsed).table();
    return arrow::Status::Invalid(file_name, ":", parsed.error().source().begin.line,
                                  ": ", parsed.error().description());
  } catch (const BrokenAssertion&) {
    return arrow::Status::Invalid(file_name,
                                  ": this is not TOML: look for a table header without a "
                                  "name, or for a value that is neither a number, true, "
                                  "false nor in quotes");
  }
}

}  // namespace

arrow::Result<ClusterConfig> ClusterConfig::FromToml(const std::string& text,
                                                     const std::string& file_name) {
  return FromToml(text, file_name, ClusterConfig());
}

arrow::Result<ClusterConfig> ClusterConfig::FromToml(const std::string& text,
                                                     const std::string& file_name,
                                                     ClusterConfig defaults) {
  ARROW_ASSIGN_OR_RAISE(const toml::table table, Parse(text, file_name));
  ClusterConfig config = std::move(defaults);
  TableReader reader(table, file_name, "");
  ARROW_RETURN_NOT_OK(ReadCluster(&reader, table.contains("nodes"), file_name, &config));
  // Before the defaults, which make the simulator software.
  arrow::Status status;
  if (table.contains("coherence")) status = config.CheckCoherence();
  if (status.ok()) status = CheckVisibilityIsDeclared(config, table);
  config.ApplyDefaults();
  if (status.ok()) status = config.Validate();
  if (!status.ok()) return AddPlace(status, table, file_name);
  return config;
}

arrow::Result<ClusterConfig> ClusterConfig::Load(const std::string& path) {
  std::error_code error;
  if (std::filesystem::exists(path, error) &&
      !std::filesystem::is_regular_file(path, error)) {
    return arrow::Status::Invalid("the cluster file ", path, " is not a file");
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    return arrow::Status::KeyError("there is no cluster file ", path,
                                   ": is the cluster up (`sheaf up`)?");
  }
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  if (file.bad()) return arrow::Status::IOError("cannot read cluster file ", path);
  return FromToml(text, path);
}

}  // namespace sheaf::region
