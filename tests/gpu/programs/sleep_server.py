"""A server as people run them: answers HTTP requests by work on its GPU memory. Prints its port, and ends with its
standard input. Nothing in it knows that gpuroom puts it to sleep."""

import http.server
import sys
import threading

import common


def main():
    torch = common.need("torch")
    gibibytes = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    weights = [torch.full((512 * common.MIB // 4,), index + 1, dtype=torch.int32, device="cuda")
               for index in range(2 * gibibytes)]
    lock = threading.Lock()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            index = int(self.path.strip("/"))
            with lock:
                text = str(int((weights[index] * 3).sum(dtype=torch.int64))).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()
    return 0


if __name__ == "__main__":
    sys.exit(main())
