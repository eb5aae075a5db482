#include "simulation/model.h"

#include <cstdint>
#include <iterator>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "simulation/content.h"

namespace sheaf::simulation {

NameModel::Look NameModel::BeginLook() {
  looks_.push_back(possible_);
  return std::prev(looks_.end());
}

std::set<ContentId> NameModel::EndLook(Look look) {
  std::set<ContentId> seen = std::move(*look);
  looks_.erase(look);
  return seen;
}

void NameModel::BeginChange(ContentId effect, Look own) {
  has_overlap_ |= changes_++ > 0;
  possible_.insert(effect);
  for (auto look = looks_.begin(); look != looks_.end(); ++look) {
    if (look != own) look->insert(effect);
  }
}

void NameModel::EndChange(ContentId effect, Outcome outcome) {
  if (outcome == Outcome::kUnknown) late_.insert(effect);
  if (outcome == Outcome::kDone && !has_overlap_) {
    possible_ = late_;
    possible_.insert(effect);
  }
  // A put that was refused had a content of its own: nobody else makes it.
  if (outcome == Outcome::kRefused && effect != kNothing) possible_.erase(effect);
  if (--changes_ == 0) has_overlap_ = false;
}

void NameModel::Settle(ContentId content) {
  possible_ = {content};
  late_.clear();
}

void Model::EndCreator(uint64_t creator) {
  for (HandleModel& handle : handles) {
    if (handle.creator != creator || handle.life == Life::kGone) continue;
    if (!handle.keep || !handle.keep_is_known) handle.life = Life::kDoubtful;
  }
}

void Model::Quiet() {
  for (HandleModel& handle : handles) {
    if (handle.life == Life::kDoubtful && !handle.keep && handle.keep_is_known) {
      handle.life = Life::kGone;
    }
  }
}

std::optional<ContentId> Model::Torn(const std::set<ContentId>& possible) const {
  for (const ContentId id : possible) {
    if (torn.contains(id)) return id;
  }
  return std::nullopt;
}

std::string Model::Describe(const std::set<ContentId>& possible) const {
  std::string text;
  for (const ContentId id : possible) {
    if (!text.empty()) text += " or ";
    text += id == kNothing ? "nothing" : ToString(Get(id));
  }
  return text;
}

}  // namespace sheaf::simulation
