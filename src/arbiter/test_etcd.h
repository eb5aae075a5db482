// A test beside a real etcd.

#pragma once

#include <memory>

#include <gtest/gtest.h>

#include "arbiter/etcd_client.h"
#include "testing/arrow_test.h"
#include "testing/etcd_server.h"

namespace sheaf::arbiter {

constexpr const char* kPrefix = "/sheaf/test";

class WithEtcd : public ::testing::Test {
 protected:
  void SetUp() override {
    if (testing::EtcdServer::FindProgram().empty()) {
      GTEST_SKIP() << "no etcd on this machine: tools/setup.sh test unpacks one";
    }
    ASSERT_OK_AND_ASSIGN(server_, testing::EtcdServer::Start());
    ASSERT_OK_AND_ASSIGN(client_, EtcdClient::Make({.endpoints = server_->url()}));
  }

  std::unique_ptr<testing::EtcdServer> server_;
  std::unique_ptr<EtcdClient> client_;
};

}  // namespace sheaf::arbiter
