#include "cli/http_message.h"

#include <fmt/format.h>

#include <algorithm>

namespace gpuroom {
namespace {

// Takes the part before the first `end` off `text`; all of it where there is none.
std::string TakeUntil(std::string_view* text, char end) {
  const size_t at = std::min(text->find(end), text->size());
  std::string part(text->substr(0, at));
  text->remove_prefix(std::min(at + 1, text->size()));
  return part;
}

bool IsToken(std::string_view word) {
  const auto letter = [](char c) { return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '-'; };
  return !word.empty() && std::all_of(word.begin(), word.end(), letter);
}

// Printable ASCII: what else belongs into a path stands there as %XX.
bool IsPath(std::string_view word) {
  const auto fits = [](char c) { return c > ' ' && c <= '~'; };
  return !word.empty() && word[0] == '/' && std::all_of(word.begin(), word.end(), fits);
}

}  // namespace

bool IsWholeHttpRequest(std::string_view text) {
  // RFC 9112 2.2: a line may end with LF alone.
  return text.find("\r\n\r\n") != std::string_view::npos || text.find("\n\n") != std::string_view::npos;
}

HttpRequest ParseHttpRequest(std::string_view text) {
  const std::string first = TakeUntil(&text, '\n');
  std::string_view line(first);
  if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  const std::string method = TakeUntil(&line, ' ');
  const std::string target = TakeUntil(&line, ' ');
  HttpRequest request;
  if (!IsToken(method) || !IsPath(target) || (line != "HTTP/1.1" && line != "HTTP/1.0")) return request;
  request.path = target.substr(0, target.find('?'));
  request.body = method != "HEAD";
  request.status = method == "GET" || method == "HEAD" ? 200 : 405;
  return request;
}

std::string_view HttpReason(int status) {
  switch (status) {
    case 200: return "OK";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 431: return "Request Header Fields Too Large";
    default: return "Bad Request";
  }
}

std::string HttpAnswerHead(int status, std::string_view content_type, size_t length) {
  return fmt::format(
      "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n{}X-Content-Type-Options: nosniff\r\n"
      "Connection: close\r\n\r\n",
      status, HttpReason(status), content_type, length, status == 405 ? "Allow: GET, HEAD\r\n" : "");
}

}  // namespace gpuroom
