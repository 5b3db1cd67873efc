// What is read of an HTTP request; exporter_test.py has what comes of it.
#include "cli/http_message.h"

#include <gtest/gtest.h>

namespace gpuroom {
namespace {

TEST(HttpMessage, ARequestEndsBeforeAnEmptyLine) {
  EXPECT_FALSE(IsWholeHttpRequest(""));
  EXPECT_FALSE(IsWholeHttpRequest("GET / HTTP/1.1\r\nHost: x\r\n"));
  EXPECT_FALSE(IsWholeHttpRequest("GET / HTTP/1.1\r\nHost: x\r\n\r"));
  EXPECT_TRUE(IsWholeHttpRequest("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
  EXPECT_TRUE(IsWholeHttpRequest("GET / HTTP/1.1\n\n"));
  EXPECT_TRUE(IsWholeHttpRequest("GET / HTTP/1.1\r\n\r\nmore"));
}

TEST(HttpMessage, TheFirstLineSaysWhatIsAsked) {
  const HttpRequest get = ParseHttpRequest("GET /metrics?a=b?c HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(get.status, 200);
  EXPECT_TRUE(get.body);
  EXPECT_EQ(get.path, "/metrics");
  const HttpRequest head = ParseHttpRequest("HEAD / HTTP/1.0\n\n");
  EXPECT_EQ(head.status, 200);
  EXPECT_FALSE(head.body);
  EXPECT_EQ(ParseHttpRequest("POST / HTTP/1.1\r\n\r\n").status, 405);
}

TEST(HttpMessage, WhatIsNoRequestIsRefused) {
  for (const char* text :
       {"\n\n", "GET\n\n", "GET /\n\n", "GET / HTTP/1.2\n\n", "GET / HTTP/1.1 \n\n", " GET / HTTP/1.1\n\n",
        "GET * HTTP/1.1\n\n", "G\tT / HTTP/1.1\n\n", "GET /\t HTTP/1.1\n\n", "GET /\x7f HTTP/1.1\n\n"})
    EXPECT_EQ(ParseHttpRequest(text).status, 400) << text;
}

TEST(HttpMessage, AnAnswerSaysHowLongItIsAndThatTheConnectionEnds) {
  EXPECT_EQ(HttpAnswerHead(404, "text/plain", 12),
            "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 12\r\n"
            "X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n");
  EXPECT_NE(HttpAnswerHead(405, "text/plain", 0).find("\r\nAllow: GET, HEAD\r\n"), std::string::npos);
}

}  // namespace
}  // namespace gpuroom
