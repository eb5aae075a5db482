#include "region/sim_posted.h"

#include <cstdint>

#include "platform/shared_word.h"
#include "region/sim_state.h"

namespace sheaf::region {

using platform::SharedWord;

void SimPosted::Post(uint64_t line, const SimLine& words, uint64_t now_ns) {
  if (node_->posted_tail - node_->posted_head == capacity_) PopOldest();
  SimPostedLine& entry = Entry(node_->posted_tail);
  entry.line = line;
  entry.posted_ns = now_ns;
  entry.arrived = 0;
  entry.words = words;
  SharedWord(&node_->posted_tail).StoreRelease(node_->posted_tail + 1);
}

bool SimPosted::LooksEmpty() const {
  return SharedWord(&node_->posted_head).LoadAcquire() ==
         SharedWord(&node_->posted_tail).LoadAcquire();
}

bool SimPosted::Holds(uint64_t line) const {
  for (uint64_t i = node_->posted_head; i != node_->posted_tail; ++i) {
    const SimPostedLine& entry = Entry(i);
    if (entry.line == line && entry.arrived == 0) return true;
  }
  return false;
}

void SimPosted::ArriveUntil(uint64_t posted_ns) {
  while (node_->posted_head != node_->posted_tail &&
         Entry(node_->posted_head).posted_ns <= posted_ns) {
    PopOldest();
  }
}

void SimPosted::ArriveAll() {
  while (node_->posted_head != node_->posted_tail) PopOldest();
}

void SimPosted::ArriveAny(uint64_t random) {
  const uint64_t count = node_->posted_tail - node_->posted_head;
  if (count == 0) return;
  const uint64_t line = Entry(node_->posted_head + random % count).line;
  for (uint64_t i = node_->posted_head; i != node_->posted_tail; ++i) {
    SimPostedLine& entry = Entry(i);
    if (entry.line != line || entry.arrived != 0) continue;
    Arrive(&entry);  // The oldest of that line.
    return;
  }
}

void SimPosted::Arrive(SimPostedLine* entry) {
  auto* words = reinterpret_cast<uint64_t*>(truth_ + entry->line * line_bytes_);
  for (uint64_t i = 0; i < line_bytes_ / sizeof(uint64_t); ++i) {
    SharedWord(words + i).StoreRelease(entry->words[i]);
  }
  SharedWord(&entry->arrived).StoreRelease(1);
}

void SimPosted::PopOldest() {
  SimPostedLine& entry = Entry(node_->posted_head);
  if (entry.arrived == 0) Arrive(&entry);
  SharedWord(&node_->posted_head).StoreRelease(node_->posted_head + 1);
}

}  // namespace sheaf::region
