// Four nodes, each of which has rows of one table.

#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include <arrow/array/builder_binary.h>
#include <arrow/array/builder_primitive.h>
#include <arrow/status.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <arrow/util/macros.h>
#include <gtest/gtest.h>

#include "base/plant.h"
#include "client/session.h"
#include "client/store_session.h"
#include "lease/lease.h"
#include "region/region.h"
#include "sheaf/sheaf.h"
#include "testing/arrow_test.h"
#include "testing/eventually.h"
#include "testing/test_cluster.h"

namespace sheaf::testing {

using std::chrono::milliseconds;
using TablePtr = std::shared_ptr<arrow::Table>;

constexpr uint32_t kNodes = 4;
constexpr int64_t kPartRows = 6'000;
constexpr milliseconds kLong{60'000};

// Rows as TPC-H's lineitem has, made of their numbers.
inline TablePtr Lineitem(int64_t first, int64_t rows) {
  arrow::Int64Builder keys;
  arrow::Int64Builder quantities;
  arrow::Int64Builder prices;
  arrow::Date32Builder dates;
  arrow::StringBuilder flags;
  for (int64_t row = first; row < first + rows; ++row) {
    const auto mixed =
        static_cast<int64_t>((static_cast<uint64_t>(row) + 1) * 0x9E3779B97F4A7C15 >> 33);
    EXPECT_OK(keys.Append(row / 4));
    EXPECT_OK(quantities.Append(1 + mixed % 50));
    EXPECT_OK(mixed % 97 == 0 ? prices.AppendNull() : prices.Append(mixed % 10'000'000));
    EXPECT_OK(dates.Append(static_cast<int32_t>(8036 + mixed % 2526)));
    EXPECT_OK(flags.Append(std::string(1, "ANR"[mixed % 3]) + (mixed % 2 ? "F" : "O")));
  }
  const auto schema = arrow::schema({arrow::field("l_orderkey", arrow::int64()),
                                     arrow::field("l_quantity", arrow::int64()),
                                     arrow::field("l_extendedprice", arrow::int64()),
                                     arrow::field("l_shipdate", arrow::date32()),
                                     arrow::field("l_flags", arrow::utf8())});
  return arrow::Table::Make(schema,
                            {keys.Finish().ValueOrDie(), quantities.Finish().ValueOrDie(),
                             prices.Finish().ValueOrDie(), dates.Finish().ValueOrDie(),
                             flags.Finish().ValueOrDie()});
}

// A process on some node that puts parts: "connect CLUSTER NODE", "part NAME I OF",
// "append NAME I OF", "share NAME TABLE I OF", "abort NAME", "remove NAME".
inline std::string AnswerAsWriter(const std::string& request) {
  static auto* store = new std::shared_ptr<Store>();
  std::istringstream words(request);
  std::string verb;
  std::string name;
  words >> verb >> name;
  if (verb == "connect") {
    uint32_t node = 0;
    words >> node;
    auto connected = Store::Connect({name, node});
    if (connected.ok()) *store = *connected;
    return connected.status().ToString();
  }
  if (verb == "all") {  // every step that there is, until one of them kills
    const auto other = Store::Connect({name, 1}).ValueOrDie();
    ARROW_UNUSED(PutPart(*store, "t", *Lineitem(0, kPartRows), 0, 2));
    ARROW_UNUSED(PutPart(other, "t", *Lineitem(kPartRows, kPartRows), 1, 2));
    ARROW_UNUSED(AppendPart(*store, "t", *Lineitem(2 * kPartRows, kPartRows)));
    ARROW_UNUSED(PutPart(other, "u", *Lineitem(0, kPartRows), 1, 2));
    ARROW_UNUSED(AbortParts(*store, "u"));
    ARROW_UNUSED(Barrier(*store, "b", 2, milliseconds(0)));
    return "lived";
  }
  if (verb == "arrive") {
    uint32_t n = 0;
    words >> n;
    return Barrier(*store, name, n, kLong).ToString();
  }
  if (verb == "abort") return AbortParts(*store, name).ToString();
  if (verb == "remove") return (*store)->Remove(name).ToString();
  if (verb == "share") {
    std::string source;
    uint32_t part = 0;
    uint32_t of = 0;
    words >> source >> part >> of;
    const auto table = (*store)->Get(source);
    if (!table.ok()) return table.status().ToString();
    return PutPart(*store, name, **table, part, of).status().ToString();
  }
  uint32_t part = 0;
  uint32_t of = 0;
  words >> part >> of;
  const auto put = PutPart(*store, name, *Lineitem(part * kPartRows, kPartRows), part, of,
                           {.append = verb == "append"});
  return put.ok() ? "OK" : put.status().ToString();
}

struct BackendCase {
  const char* name;
  const char* config;
};

class FourNodes : public ::testing::TestWithParam<BackendCase> {
 protected:
  void SetUp() override {
    TestClusterOptions options;
    options.nodes = kNodes;
    options.config_toml = std::string(
                              "segment_size = \"64MiB\"\nslots_max = 4096\n"
                              "records_size = \"16MiB\"\n") +
                          GetParam().config;
    options.daemon_path = SHEAFD_BINARY;
    ASSERT_OK_AND_ASSIGN(cluster_, TestCluster::Start(options));
    for (uint32_t node = 0; node < kNodes; ++node) {
      ASSERT_OK_AND_ASSIGN(auto store, cluster_->Connect(node, /*relocate=*/node != 0));
      stores_.push_back(std::move(store));
    }
    free_at_start_ = FreeBytes();
  }
  void TearDown() override { SetPlants(""); }

  std::vector<uint64_t> FreeBytes() {
    std::vector<uint64_t> free;
    for (const NodeInfo& node : stores_[0]->Nodes().ValueOrDie()) {
      free.push_back(node.free_bytes);
    }
    return free;
  }
  // Once no store of this process keeps memory for later.
  void ExpectNothingLeft() {
    stores_.clear();
    EXPECT_TRUE(Eventually([&] {
      stores_ = {cluster_->Connect(0).ValueOrDie()};
      bool all = FreeBytes() == free_at_start_;
      for (const NodeInfo& node : stores_[0]->Nodes().ValueOrDie()) {
        all = all && node.objects == 0;
      }
      if (!all) stores_.clear();
      return all;
    }));
  }

  TablePtr Part(uint32_t i) { return Lineitem(i * kPartRows, kPartRows); }

  // Part i at node i modulo their number.
  void PutAll(const std::string& name, uint32_t of) {
    for (uint32_t i = 0; i < of; ++i) {
      ASSERT_OK_AND_ASSIGN(const auto receipt,
                           PutPart(stores_[i % kNodes], name, *Part(i), i, of));
      ASSERT_EQ(receipt.version != 0, i + 1 == of);
    }
  }

  size_t LeasesOf(const Store& store) {
    size_t leases = 0;
    for (const auto& [cell, count] :
         lease::CountLeases(SessionOf(store)->region()).ValueOrDie()) {
      leases += count;
    }
    return leases;
  }

  std::unique_ptr<TestCluster> cluster_;
  std::vector<std::shared_ptr<Store>> stores_;
  std::vector<uint64_t> free_at_start_;
};

inline auto FourNodesBackends() {
  return ::testing::Values(
      BackendCase{"Shm", ""}, BackendCase{"SimStale", "backend = \"sim\"\n"},
      BackendCase{"SimChaos", "backend = \"sim\"\n[sim]\nchaos = true\n"});
}
inline std::string BackendCaseName(const ::testing::TestParamInfo<BackendCase>& backend) {
  return backend.param.name;
}

}  // namespace sheaf::testing
