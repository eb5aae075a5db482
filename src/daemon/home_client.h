// An object's home, wherever it is.

#pragma once

#include <functional>
#include <string>

#include <arrow/status.h>

#include "daemon/catalog_client.h"
#include "daemon/home.h"
#include "daemon/reclaimer.h"
#include "daemon/transport.h"
#include "format/message.h"
#include "sheaf/types.h"

namespace sheaf::daemon {

/// \brief Retire and keep objects: here, or by a message to their home. Callbacks may run
/// inside the call. All it is given outlives it.
class HomeClient {
 public:
  using Done = std::function<void(const arrow::Status&)>;

  HomeClient(const region::Region* region, Home* home, CatalogClient* catalog,
             Reclaimer* reclaimer, Transport* transport);

  /// \brief As Home::Retire; the leader is told that a name is free.
  void Retire(const ObjectId& object, const std::string& name, const Done& done);
  void SetKept(const ObjectId& object, bool kept, const Done& done);

  /// \brief Answer a peer's message about an object of this home. False if it is
  /// something else.
  bool Handle(const format::Message& message, const ReplyFn& reply);

 private:
  arrow::Status RetireHere(const ObjectId& object, const std::string& name);
  arrow::Status CheckHome(const ObjectId& object) const;
  void Send(const ObjectId& object, std::vector<uint8_t> message, const Done& done);

  const region::Region* region_;
  Home* home_;
  CatalogClient* catalog_;
  Reclaimer* reclaimer_;
  Transport* transport_;
};

}  // namespace sheaf::daemon
