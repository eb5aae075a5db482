// What Arrow's own test library would offer, were it shipped: checks of `Status` and
// `Result`.

#pragma once

#include <utility>

#include <arrow/result.h>
#include <arrow/status.h>
#include <gtest/gtest.h>

namespace sheaf::testing {

inline arrow::Status StatusOf(arrow::Status status) { return status; }

template <typename T>
arrow::Status StatusOf(const arrow::Result<T>& result) {
  return result.status();
}

inline ::testing::AssertionResult IsOk(const arrow::Status& status) {
  if (status.ok()) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << status.ToString();
}

inline ::testing::AssertionResult HasCode(const arrow::Status& status,
                                          arrow::StatusCode code) {
  if (status.code() == code) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "expected " << arrow::Status::CodeAsString(code)
                                       << ", got " << status.ToString();
}

}  // namespace sheaf::testing

// Each takes a `Status` or a `Result`.
#define ASSERT_OK(expression) \
  ASSERT_TRUE(::sheaf::testing::IsOk(::sheaf::testing::StatusOf(expression)))
#define EXPECT_OK(expression) \
  EXPECT_TRUE(::sheaf::testing::IsOk(::sheaf::testing::StatusOf(expression)))

/// ASSERT_RAISES(Invalid, expression)
#define ASSERT_RAISES(code, expression)                                         \
  ASSERT_TRUE(::sheaf::testing::HasCode(::sheaf::testing::StatusOf(expression), \
                                        ::arrow::StatusCode::code))
#define EXPECT_RAISES(code, expression)                                         \
  EXPECT_TRUE(::sheaf::testing::HasCode(::sheaf::testing::StatusOf(expression), \
                                        ::arrow::StatusCode::code))

// NOLINTBEGIN(bugprone-macro-parentheses): one argument is a declaration
#define SHEAF_CONCAT_INNER(a, b) a##b
#define SHEAF_CONCAT(a, b) SHEAF_CONCAT_INNER(a, b)
#define SHEAF_ASSERT_OK_AND_ASSIGN(result, declaration, expression) \
  auto&& result = (expression);                                     \
  ASSERT_OK(result);                                                \
  declaration = std::move(result).ValueUnsafe()

/// ASSERT_OK_AND_ASSIGN(auto table, MakeTable())
#define ASSERT_OK_AND_ASSIGN(declaration, expression)                            \
  SHEAF_ASSERT_OK_AND_ASSIGN(SHEAF_CONCAT(sheaf_result_, __LINE__), declaration, \
                             expression)
// NOLINTEND(bugprone-macro-parentheses)
