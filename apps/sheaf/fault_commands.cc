#include <string>

#include <arrow/status.h>

#include "apps/sheaf/commands.h"
#include "apps/sheaf/output.h"
#include "base/fault_info.h"
#include "base/fault_point.h"

namespace sheaf::cli {

arrow::Status Faults(const Global& global) {
  if (global.json) {
    Json array = Json::array();
    for (const FaultPointInfo& point : kFaultPoints) {
      array.push_back(
          {{"name", point.name}, {"program", point.program()}, {"what", point.what}});
    }
    PrintJson(array);
    return arrow::Status::OK();
  }
  TextTable table({{"NAME"}, {"WHERE THE PROGRAM IS THERE"}});
  for (const FaultPointInfo& point : kFaultPoints) {
    table.AddRow({std::string(point.name), std::string(point.what)});
  }
  PrintText(table.ToString());
  return arrow::Status::OK();
}

}  // namespace sheaf::cli
