#include "arbiter/http_client.h"

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>

#include <arrow/result.h>
#include <arrow/status.h>
#include <curl/curl.h>
#include <curl/easy.h>

#include "base/etcd_access.h"

namespace sheaf::arbiter {
namespace {

struct CloseHandle {
  void operator()(CURL* handle) const { curl_easy_cleanup(handle); }
};
struct FreeList {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};

/// Once in the process, before any thread can use it.
bool InitialiseLibrary() {
  static const bool kIsReady = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
  return kIsReady;
}

}  // namespace

class HttpClient::Impl {
 public:
  arrow::Status Open(const TlsFiles& files);
  arrow::Result<HttpReply> Post(const std::string& url, const std::string& body,
                                const std::string& authorization,
                                std::chrono::milliseconds timeout);

 private:
  arrow::Status SetHeaders(const std::string& authorization);
  /// libcurl's, in C: takes less than it is given to end the transfer.
  static size_t OnBody(const char* data, size_t size, size_t count, void* reply) {
    std::string& body = static_cast<HttpReply*>(reply)->body;
    if (body.size() + size * count > kReplyBytesMax) return 0;
    body.append(data, size * count);
    return size * count;
  }

  template <typename Value>
  void Set(CURLoption option, Value value) {
    const CURLcode code = curl_easy_setopt(handle_.get(), option, value);
    if (code != CURLE_OK && status_.ok()) {
      status_ = arrow::Status::Invalid("libcurl option ", static_cast<int>(option), ": ",
                                       curl_easy_strerror(code));
    }
  }

  std::unique_ptr<CURL, CloseHandle> handle_;
  std::unique_ptr<curl_slist, FreeList> headers_;
  std::string authorization_;  ///< In headers_.
  arrow::Status status_;
};

arrow::Status HttpClient::Impl::Open(const TlsFiles& files) {
  if (InitialiseLibrary()) handle_.reset(curl_easy_init());
  if (!handle_) return arrow::Status::OutOfMemory("no handle of libcurl");
  Set(CURLOPT_NOSIGNAL, 1L);  // The daemon's signals are its own.
  Set(CURLOPT_PROTOCOLS_STR, "http,https");
  Set(CURLOPT_NOPROXY, "*");  // Members of the cluster, whatever the environment says.
  ARROW_RETURN_NOT_OK(SetHeaders(""));
  Set(CURLOPT_WRITEFUNCTION, &Impl::OnBody);
  if (!files.ca_file.empty()) Set(CURLOPT_CAINFO, files.ca_file.c_str());
  if (!files.cert_file.empty()) Set(CURLOPT_SSLCERT, files.cert_file.c_str());
  if (!files.key_file.empty()) Set(CURLOPT_SSLKEY, files.key_file.c_str());
  return status_;
}

arrow::Status HttpClient::Impl::SetHeaders(const std::string& authorization) {
  if (headers_ && authorization == authorization_) return arrow::Status::OK();
  std::unique_ptr<curl_slist, FreeList> headers(
      curl_slist_append(nullptr, "Content-Type: application/json"));
  if (headers && !authorization.empty()) {
    const std::string line = "Authorization: " + authorization;
    if (curl_slist_append(headers.get(), line.c_str()) == nullptr) headers.reset();
  }
  if (!headers) return arrow::Status::OutOfMemory("no list of libcurl");
  Set(CURLOPT_HTTPHEADER, headers.get());
  headers_ = std::move(headers);
  authorization_ = authorization;
  return arrow::Status::OK();
}

arrow::Result<HttpReply> HttpClient::Impl::Post(const std::string& url,
                                                const std::string& body,
                                                const std::string& authorization,
                                                std::chrono::milliseconds timeout) {
  HttpReply reply;
  status_ = arrow::Status::OK();
  ARROW_RETURN_NOT_OK(SetHeaders(authorization));
  Set(CURLOPT_URL, url.c_str());
  Set(CURLOPT_POSTFIELDSIZE, static_cast<long>(body.size()));
  Set(CURLOPT_POSTFIELDS, body.c_str());
  Set(CURLOPT_TIMEOUT_MS, static_cast<long>(timeout.count()));
  Set(CURLOPT_WRITEDATA, &reply);
  ARROW_RETURN_NOT_OK(status_);
  const CURLcode code = curl_easy_perform(handle_.get());
  if (code != CURLE_OK) {
    return arrow::Status::IOError(url, ": ", curl_easy_strerror(code));
  }
  curl_easy_getinfo(handle_.get(), CURLINFO_RESPONSE_CODE, &reply.code);
  return reply;
}

arrow::Result<std::unique_ptr<HttpClient>> HttpClient::Make(const TlsFiles& files) {
  auto impl = std::make_unique<Impl>();
  ARROW_RETURN_NOT_OK(impl->Open(files));
  return std::unique_ptr<HttpClient>(new HttpClient(std::move(impl)));
}

HttpClient::HttpClient(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpClient::~HttpClient() = default;

arrow::Result<HttpReply> HttpClient::Post(const std::string& url, const std::string& body,
                                          const std::string& authorization,
                                          std::chrono::milliseconds timeout) {
  return impl_->Post(url, body, authorization, timeout);
}

}  // namespace sheaf::arbiter
