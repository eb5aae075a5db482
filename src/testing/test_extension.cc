#include <memory>
#include <string>
#include <utility>

#include <arrow/array/array_base.h>
#include <arrow/extension_type.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/type.h>
#include <arrow/util/checked_cast.h>

#include "base/check.h"
#include "testing/tables.h"

namespace sheaf::testing {

namespace {

constexpr char kName[] = "sheaf.test";

class TestExtensionArray : public arrow::ExtensionArray {
 public:
  using arrow::ExtensionArray::ExtensionArray;
};

class TestExtensionType : public arrow::ExtensionType {
 public:
  TestExtensionType(std::shared_ptr<arrow::DataType> storage, std::string parameter)
      : arrow::ExtensionType(std::move(storage)), parameter_(std::move(parameter)) {}

  std::string extension_name() const override { return kName; }
  std::string Serialize() const override { return parameter_; }

  bool ExtensionEquals(const arrow::ExtensionType& other) const override {
    if (other.extension_name() != kName) return false;
    const auto& same = arrow::internal::checked_cast<const TestExtensionType&>(other);
    return parameter_ == same.parameter_ && storage_type()->Equals(same.storage_type());
  }

  std::shared_ptr<arrow::Array> MakeArray(
      std::shared_ptr<arrow::ArrayData> data) const override {
    return std::make_shared<TestExtensionArray>(std::move(data));
  }

  arrow::Result<std::shared_ptr<arrow::DataType>> Deserialize(
      std::shared_ptr<arrow::DataType> storage, const std::string& data) const override {
    if (data == "refuse") return arrow::Status::Invalid("refused");
    return TestExtension(std::move(storage), data);
  }

 private:
  std::string parameter_;
};

void SetRegistered(bool registered) {
  const arrow::Status status =
      registered ? arrow::RegisterExtensionType(
                       arrow::internal::checked_pointer_cast<arrow::ExtensionType>(
                           TestExtension(arrow::null())))
                 : arrow::UnregisterExtensionType(kName);
  SHEAF_CHECK(status.ok());
}

}  // namespace

std::shared_ptr<arrow::DataType> TestExtension(std::shared_ptr<arrow::DataType> storage,
                                               std::string parameter) {
  return std::make_shared<TestExtensionType>(std::move(storage), std::move(parameter));
}

TestExtensionRegistration::TestExtensionRegistration(bool registered)
    : was_registered_(arrow::GetExtensionType(kName) != nullptr) {
  if (registered != was_registered_) SetRegistered(registered);
}

TestExtensionRegistration::~TestExtensionRegistration() {
  const bool registered = arrow::GetExtensionType(kName) != nullptr;
  if (registered != was_registered_) SetRegistered(was_registered_);
}

}  // namespace sheaf::testing
