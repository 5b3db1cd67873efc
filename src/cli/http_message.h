// What the metrics' endpoint (metrics_server.h) reads and writes of HTTP/1.1: a request without a body, and
// the head of an answer after which the connection is closed. Pure functions.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace gpuroom {

// A longer request, its headers included, is refused.
inline constexpr size_t kLongestHttpRequest = 8192;  // bytes

struct HttpRequest {
  int status = 400;  // 200: a well-formed GET or HEAD; else what it is refused with
  bool body = true;  // false: HEAD, which is answered without one
  std::string path;  // without a query
};

// Whether `text`, which has come so far, has all headers of a request: it ends before an empty line.
bool IsWholeHttpRequest(std::string_view text);
// Of a whole request. Reads nothing but its first line.
HttpRequest ParseHttpRequest(std::string_view text);

// The status line and headers of an answer with `length` bytes of text, with the empty line after them.
std::string HttpAnswerHead(int status, std::string_view content_type, size_t length);
// "Not Found".
std::string_view HttpReason(int status);

}  // namespace gpuroom
