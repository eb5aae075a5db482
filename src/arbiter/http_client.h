// HTTP POST, and nothing else: wraps libcurl, which no other file sees.

#pragma once

#include <chrono>
#include <memory>
#include <string>

#include <arrow/result.h>

#include "base/etcd_access.h"

namespace sheaf::arbiter {

struct HttpReply {
  long code = 0;
  std::string body;
};

/// \brief Keeps connections open between requests. One thread at a time.
class HttpClient {
 public:
  /// No answer is longer: what is, is an error.
  static constexpr size_t kReplyBytesMax = size_t{16} << 20;

  /// \brief OutOfMemory if libcurl has none.
  static arrow::Result<std::unique_ptr<HttpClient>> Make(const TlsFiles& files);
  ~HttpClient();

  /// \brief Post `body`, a JSON text, with `authorization` as that header if it is not
  /// empty; no error names either. IOError if there was no whole answer in `timeout`; any
  /// code of an answer is a reply.
  arrow::Result<HttpReply> Post(const std::string& url, const std::string& body,
                                const std::string& authorization,
                                std::chrono::milliseconds timeout);

 private:
  class Impl;
  explicit HttpClient(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sheaf::arbiter
