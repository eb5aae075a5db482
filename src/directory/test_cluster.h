// Several homes and a leader over fake segments, with the whole of a publish in one call.

#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <arrow/result.h>
#include <arrow/status.h>
#include <gtest/gtest.h>

#include "directory/catalog.h"
#include "directory/directory.h"
#include "directory/test_records.h"
#include "format/layout.h"
#include "region/control_line.h"
#include "sheaf/types.h"
#include "testing/arrow_test.h"
#include "testing/fake_segments.h"

namespace sheaf::directory {

inline constexpr testing::FakeOptions kTwoNodes = {.segments = 2, .slots_max = 4096};

class TestCluster {
 public:
  explicit TestCluster(const testing::FakeOptions& options,
                       HashFn hash = format::HashName)
      : segments_(options), hash_(hash) {
    for (uint32_t k = 0; k < options.segments; ++k) {
      homes_.push_back(std::make_unique<HomeDirectory>(segments_[k], hash));
    }
  }

  testing::FakeSegments& segments() { return segments_; }
  HomeDirectory& home(uint32_t k) { return *homes_[k]; }
  HomeDirectory& home(const ObjectId& id) { return *homes_[id.segment.value]; }
  CatalogLeader& leader() { return *leader_; }

  arrow::Status Claim(uint32_t epoch, uint32_t node = 0) {
    leader_.reset();
    ARROW_ASSIGN_OR_RAISE(leader_,
                          CatalogLeader::Claim([this] { return segments_.list(); },
                                               homes_[node].get(), epoch, hash_));
    return arrow::Status::OK();
  }

  void RestartHome(uint32_t k) {
    leader_.reset();
    homes_[k].reset();
    homes_[k] = std::make_unique<HomeDirectory>(segments_[k], hash_);
  }

  ObjectId Seal(const std::string& name, uint32_t home = 0) {
    return *homes_[home]->Seal(MakeRecord(name, home), format::kSlotNamed);
  }

  /// \brief C4 to C6 after the grant, without the commit.
  arrow::Status MakeBound(const ObjectId& id, Version version) {
    ARROW_RETURN_NOT_OK(home(id).SetVersion(id, version.epoch, version.sequence));
    return home(id).Bind(id);
  }

  arrow::Status RetireAll(const std::vector<ObjectId>& ids) {
    for (const ObjectId& id : ids) ARROW_RETURN_NOT_OK(home(id).Retire(id));
    return arrow::Status::OK();
  }

  /// \brief A whole publish; the object is retired if its name is denied.
  arrow::Result<Found> Publish(const std::string& name, uint32_t home_node = 0,
                               bool replace = false,
                               std::optional<uint32_t> expected = std::nullopt) {
    const ObjectId id = Seal(name, home_node);
    const auto version = leader_->Bind({name, id, replace, expected});
    if (!version.ok()) {
      ARROW_RETURN_NOT_OK(home(id).Retire(id));
      return version.status();
    }
    ARROW_RETURN_NOT_OK(MakeBound(id, *version));
    ARROW_ASSIGN_OR_RAISE(const auto superseded, leader_->Commit(name, id, *version));
    ARROW_RETURN_NOT_OK(RetireAll(superseded));
    return Found{id, *version};
  }

  /// \brief C8, of a name that nobody puts.
  arrow::Status Remove(const std::string& name) {
    ARROW_ASSIGN_OR_RAISE(const auto found, Find(name));
    if (!found) return arrow::Status::KeyError(name);
    ARROW_RETURN_NOT_OK(home(found->object).SetLeaving(found->object, true));
    ARROW_RETURN_NOT_OK(
        leader_->PrepareRemoval(name, found->object, found->version.sequence).status());
    ARROW_RETURN_NOT_OK(home(found->object).Retire(found->object));
    leader_->Unbind(name, found->object);
    return arrow::Status::OK();
  }

  arrow::Result<std::optional<Found>> Find(const std::string& name) {
    return Lookup(segments_.list(), name, hash_);
  }

  format::IndexHeaderLine IndexHeader(uint32_t node) {
    const region::Segment& segment = *segments_[node];
    return *region::ReadControlLine<format::IndexHeaderLine>(
        segment, segment.NodeLine(format::NodeLine::kIndexHeader));
  }

  /// \brief Retired objects are freed; nobody leases any.
  void Reclaim() {
    for (auto& home : homes_) {
      for (const ObjectId& id : home->ObjectsIn(format::LineState::kRetired)) {
        home->Free(id).ValueOrDie();
      }
    }
  }

  std::vector<ObjectId> AllBound() {
    std::vector<ObjectId> ids;
    for (auto& home : homes_) {
      for (const ObjectId& id : home->ObjectsIn(format::LineState::kBound)) {
        ids.push_back(id);
      }
    }
    return ids;
  }

 private:
  testing::FakeSegments segments_;
  HashFn hash_;
  std::vector<std::unique_ptr<HomeDirectory>> homes_;
  std::unique_ptr<CatalogLeader> leader_;  // Uses a home: goes first.
};

inline void ExpectFound(TestCluster* cluster, const std::string& name,
                        const ObjectId& object) {
  const auto found = cluster->Find(name);
  ASSERT_OK(found);
  ASSERT_TRUE(found->has_value()) << name << " is absent";
  EXPECT_EQ((*found)->object, object) << name;
}

}  // namespace sheaf::directory
