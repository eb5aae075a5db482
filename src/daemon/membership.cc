#include "daemon/membership.h"

#include <algorithm>
#include <cstdint>
#include <string>

#include "base/fault_point.h"
#include "daemon/log.h"
#include "format/layout.h"
#include "region/control_line.h"
#include "region/region.h"
#include "sheaf/types.h"

namespace sheaf::daemon {

Membership::Membership(region::Region* region)
    : region_(region), admitted_(region->config().nodes, 0) {}

bool Membership::complete() const {
  return std::ranges::none_of(admitted_, [](uint64_t inc) { return inc == 0; });
}

void Membership::Update() {
  if (complete()) return;
  const std::string problem = region_->AttachMissing().ToString();
  if (problem != last_problem_)
    Log(LogLevel::kInfo, "segments of other nodes: ", problem);
  last_problem_ = problem;
  for (uint32_t k = 0; k < admitted_.size(); ++k) {
    if (admitted_[k] == 0 && region_->segment({k}) != nullptr) Admit({k});
  }
}

void Membership::Admit(NodeId node) {
  const auto line = region::ReadIncarnation(*region_->segment({node.value}));
  if (!line.ok() || line->incarnation == 0) return;  // Not up yet.
  region::Segment& own = region_->own_segment();
  PassFaultPoint("daemon.admit.before-word");
  region::StoreControlWord(
      &own,
      own.ControlLine(own.layout().admit + uint64_t{node.value} * format::kLineBytes),
      line->incarnation);
  PassFaultPoint("daemon.admit.after-word");
  admitted_[node.value] = line->incarnation;
  Log(LogLevel::kInfo, "node ", node.value, " admitted with incarnation ",
      line->incarnation);
}

}  // namespace sheaf::daemon
