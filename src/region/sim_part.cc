#include "region/sim_part.h"

namespace sheaf::region {

arrow::Result<std::unique_ptr<Part>> OpenSimPart(const SimPartId& /*id*/, NodeId /*node*/,
                                                 uint64_t /*size_bytes*/,
                                                 const PartAccess& /*access*/) {
  return arrow::Status::NotImplemented("backend sim");
}

arrow::Status CreateSimFiles(const SimPartId& /*id*/, uint64_t /*size_bytes*/) {
  return arrow::Status::NotImplemented("backend sim");
}

}  // namespace sheaf::region
