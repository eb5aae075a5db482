#include "apps/demo/source.h"

#include <stdio.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include <arrow/memory_pool.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/table.h>

#include "apps/sheaf/decode_pool.h"
#include "apps/sheaf/output.h"
#include "apps/sheaf/table_files.h"
#include "platform/process.h"

namespace sheaf::demo {

using cli::Json;

arrow::Result<Source> ParseSource(const std::string& text) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos)
    return arrow::Status::Invalid("expected TABLE=FILE: ", text);
  return Source{text.substr(0, equals), text.substr(equals + 1)};
}

arrow::Result<std::shared_ptr<arrow::Table>> ReadFile(const std::string& file,
                                                      arrow::MemoryPool* pool,
                                                      const cli::FileShare& share) {
  ARROW_ASSIGN_OR_RAISE(auto reader, cli::OpenTableFile(
                                         file, cli::DecodePool::Make(pool),
                                         [](double /*share*/) {}, share));
  return reader->ToTable();
}

double Seconds(std::chrono::nanoseconds duration) {
  return std::chrono::duration<double>(duration).count();
}

arrow::Result<Process> Process::Start(const std::vector<std::string>& arguments) {
  ARROW_ASSIGN_OR_RAISE(const std::string self, platform::ExecutablePath());
  Process process;
  // Arguments are ours (a temporary cluster's name and paths that the script made):
  // quoted, not escaped.
  std::string command = "'" + self + "'";
  for (const std::string& argument : arguments) {
    process.what_ += (process.what_.empty() ? "" : " ") + argument;
    command += " '" + argument + "'";
  }
  process.pipe_.reset(::popen(command.c_str(), "r"));
  if (process.pipe_ == nullptr) return arrow::Status::IOError("cannot start ", command);
  return process;
}

arrow::Result<Json> Process::Finish() {
  std::string text;
  std::array<char, 4096> block;
  for (size_t size;
       (size = std::fread(block.data(), 1, block.size(), pipe_.get())) > 0;) {
    text.append(block.data(), size);
  }
  const int code = ::pclose(pipe_.release());
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (code != 0 || json.is_discarded()) {
    return arrow::Status::IOError("the process `demo ", what_, "` failed");
  }
  return json;
}

arrow::Result<Json> RunProcess(const std::vector<std::string>& arguments) {
  ARROW_ASSIGN_OR_RAISE(Process process, Process::Start(arguments));
  return process.Finish();
}

}  // namespace sheaf::demo
