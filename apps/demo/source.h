// What the shows have in common: a table and its file, times, and further processes of
// this program.

#pragma once

#include <stdio.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include <arrow/result.h>
#include <arrow/type_fwd.h>

#include "apps/sheaf/output.h"
#include "apps/sheaf/table_files.h"

namespace sheaf::demo {

/// \brief A table and the file that it is read from: "TABLE=FILE".
struct Source {
  std::string name;
  std::string file;
};
arrow::Result<Source> ParseSource(const std::string& text);

/// \brief The file, or a share of it, decoded into memory of `pool`.
arrow::Result<std::shared_ptr<arrow::Table>> ReadFile(const std::string& file,
                                                      arrow::MemoryPool* pool,
                                                      const cli::FileShare& share = {});

double Seconds(std::chrono::nanoseconds duration);

/// \brief This program once more, with other arguments: another process, which prints
/// JSON. Its standard error is ours.
class Process {
 public:
  static arrow::Result<Process> Start(const std::vector<std::string>& arguments);
  /// \brief What it printed. IOError if it failed, and has said why.
  arrow::Result<cli::Json> Finish();

 private:
  struct Close {
    void operator()(FILE* pipe) const { ::pclose(pipe); }
  };
  std::string what_;
  std::unique_ptr<FILE, Close> pipe_;
};

/// \brief Start, and Finish.
arrow::Result<cli::Json> RunProcess(const std::vector<std::string>& arguments);

}  // namespace sheaf::demo
