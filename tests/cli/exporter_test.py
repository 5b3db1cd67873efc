"""`gpuroom exporter --listen`: what a scrape gets, and that no client harms the next one. The processes have the real
control socket and a core that only counts (control_double.cc)."""

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import time

import pytest
from doubles import LONG, Double

MOST_CONNECTIONS = 16
MIB = 1 << 20


class Exporter:
    """The running command, asking in `folder`."""

    def __init__(self, gpuroom, folder, address="127.0.0.1:0"):
        env = {"GPUROOM_CONTROL_DIR": folder}
        self.process = gpuroom.start("exporter", "--listen", address, env=env, stderr=subprocess.PIPE)
        self.line = self.process.stderr.readline()
        host, port = re.fullmatch(r"gpuroom: the metrics are at http://(.*):(\d+)/metrics\n", self.line).groups()
        self.host, self.port = host.strip("[]"), int(port)

    def end(self):
        self.process.terminate()
        _, errors = self.process.communicate(timeout=LONG)
        return self.process.returncode, errors

    def connect(self):
        return socket.create_connection((self.host, self.port), timeout=LONG)

    def ask(self, path="/metrics", method="GET", **headers):
        """Status, headers and body, which ends where the headers say."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=LONG)
        with contextlib.closing(connection):
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read().decode()

    def raw(self, data):
        """All that comes back of these bytes until the server closes."""
        with self.connect() as client:
            client.sendall(data)
            return read_all(client)

    def pids(self):
        status, _, text = self.ask()
        assert status == 200
        return dict(re.findall(r'^gpuroom_process_up\{pid="(\d+)".*\} ([01])$', text, re.M))

    def until(self, expected):
        """A page serves all who ask within 20 ms, so that the first may be of before."""
        end = time.monotonic() + LONG
        while self.pids() != expected:
            assert time.monotonic() < end, (self.pids(), expected)

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def resident_bytes(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            return int(re.search(r"VmRSS:\s+(\d+) kB", file.read()).group(1)) << 10


def read_all(client):
    parts = []
    while True:
        part = client.recv(65536)
        parts.append(part)
        if not part:
            return b"".join(parts)


@pytest.fixture
def exporter(gpuroom, folder):
    started = Exporter(gpuroom, folder)
    yield started
    assert started.process.poll() is None, "the exporter has ended"
    assert started.end() == (-signal.SIGTERM, "")


@pytest.fixture
def doubles(folder):
    with contextlib.ExitStack() as stack:

        def start(count):
            started = [Double(folder) for _ in range(count)]
            for double in started:
                stack.callback(double.kill)
            return started

        yield start


def test_a_scrape_has_what_a_textfile_has(exporter, gpuroom, folder, doubles):
    (double,) = doubles(1)
    status, headers, text = exporter.ask()
    assert status == 200
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert int(headers["Content-Length"]) == len(text) and headers["Connection"] == "close"
    assert f'gpuroom_process_up{{pid="{double.pid}",' in text and 'gpuroom_tag_bytes{' in text
    file = gpuroom("exporter", "--textfile", "-", env={"GPUROOM_CONTROL_DIR": folder}).stdout
    grows = re.compile(r"^gpuroom_(moved|displaced)_bytes_total.*\n", re.M)  # with every look at the double
    assert grows.sub("", text) == grows.sub("", file) != ""


def test_what_a_scrape_may_ask(exporter, doubles):
    doubles(1)
    whole = exporter.ask()[2]
    assert exporter.ask("/metrics?name=up")[0] == 200
    status, headers, body = exporter.ask(method="HEAD")
    assert (status, body) == (200, "") and int(headers["Content-Length"]) >= len(whole)
    assert exporter.raw(b"GET /metrics HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 OK\r\n")
    assert exporter.raw(b"GET /metrics HTTP/1.1\nHost: x\n\n").startswith(b"HTTP/1.1 200 OK\r\n")
    status, _, body = exporter.ask("/")
    assert status == 200 and "/metrics" in body
    for path in ("/metric", "/metrics/", "//metrics", "/../metrics", "/metrics%00"):
        assert exporter.ask(path)[0] == 404, path


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get"])
def test_nothing_but_get_and_head_is_answered(exporter, method):
    status, headers, _ = exporter.ask(method=method)
    assert status == 405 and headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    "request_bytes, status",
    [
        (b"\r\n\r\n", 400),
        (b"\n\n", 400),
        (b"GET\r\n\r\n", 400),
        (b"GET /metrics\r\n\r\n", 400),  # HTTP/0.9
        (b"GET /metrics HTTP/2.0\r\n\r\n", 400),
        (b"GET  /metrics HTTP/1.1\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1 more\r\n\r\n", 400),
        (b"GET metrics HTTP/1.1\r\n\r\n", 400),
        (b"GET http://localhost/metrics HTTP/1.1\r\n\r\n", 400),
        (b"GET /m\xc3\xa9trics HTTP/1.1\r\n\r\n", 400),
        (b"G\0T /metrics HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\n", 400),  # as TLS begins
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"a" * 9000 + b"\r\n\r\n", 431),
        (b"GET /metrics HTTP/1.1\r\n" + b"X: a\r\n" * 2000 + b"\r\n", 431),
        (b"\0" * (1 << 20), 431),
        (os.urandom(64) + b"\r\n\r\n", 400),
    ],
    ids=lambda value: str(value)[:40],
)
def test_garbage_is_refused(exporter, request_bytes, status):
    answer = exporter.raw(request_bytes)
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:80]
    assert answer.partition(b"\r\n\r\n")[2].endswith(b"\n")
    assert exporter.ask()[0] == 200


def test_a_request_in_single_bytes_is_read(exporter):
    with exporter.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"GET / HTTP/1.1\r\nHost: x\r\n\r\n":
            client.send(bytes([byte]))
        assert read_all(client).startswith(b"HTTP/1.1 200 OK\r\n")


def test_those_that_send_nothing_keep_nobody_waiting(exporter):
    before = exporter.descriptors()
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(exporter.connect()) for _ in range(10 * MOST_CONNECTIONS)]
        for client in silent[::2]:
            with contextlib.suppress(ConnectionError):  # the oldest are closed meanwhile
                client.send(b"GET /metr")
        assert exporter.ask()[0] == 200
        assert exporter.descriptors() <= before + MOST_CONNECTIONS
    # They are served one after the other: by the last answer all that closed have been seen to close.
    assert [exporter.ask()[0] for _ in range(2 * MOST_CONNECTIONS)] == [200] * (2 * MOST_CONNECTIONS)
    assert exporter.descriptors() <= before + MOST_CONNECTIONS


def test_those_that_do_not_read_keep_nobody_waiting(exporter, doubles):
    doubles(40)  # the page is longer than what the kernel takes for a client
    before = exporter.resident_bytes()
    with contextlib.ExitStack() as stack:
        for _ in range(4 * MOST_CONNECTIONS):
            client = socket.socket()
            stack.callback(client.close)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect((exporter.host, exporter.port))
            client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        _, headers, text = exporter.ask()
        assert len(text) == int(headers["Content-Length"]) > 100 << 10
        assert exporter.resident_bytes() - before < 64 * MIB
    assert exporter.ask()[0] == 200


def test_one_that_sends_without_end_keeps_nobody_waiting(exporter):
    with exporter.connect() as client:
        client.sendall(b"GET / HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\n")
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 200 OK\r\n")
        for _ in range(100):
            client.sendall(b"x" * 65536)
            assert exporter.ask()[0] == 200


def test_those_that_reset_harm_nobody(exporter, doubles):
    doubles(1)
    for request in (b"", b"GET /metrics HTTP/1.1\r\n\r\n"):
        for _ in range(50):
            with exporter.connect() as client:
                client.send(request)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # closing resets it
    assert exporter.ask()[0] == 200


def test_a_process_that_is_stopped_keeps_no_other_from_being_seen(exporter, doubles):
    first, second = doubles(2)
    os.kill(first.pid, signal.SIGSTOP)
    exporter.until({str(first.pid): "0", str(second.pid): "1"})  # the signal takes effect a little later
    os.kill(first.pid, signal.SIGCONT)
    exporter.until({str(first.pid): "1", str(second.pid): "1"})


def test_a_thousand_scrapes_leave_nothing_behind(exporter, doubles):
    """Ten processes of which one goes and one comes every twenty scrapes."""
    with exporter.connect() as silent:
        running = doubles(10)
        for _ in range(100):
            exporter.ask()
        descriptors, resident = exporter.descriptors(), exporter.resident_bytes()
        for _ in range(50):
            for _ in range(20):
                exporter.ask()
            running.pop(0).kill()
            running += doubles(1)
        exporter.until({str(double.pid): "1" for double in running})
        assert exporter.descriptors() <= descriptors + 1  # the one of a scrape that has just been answered
        assert exporter.resident_bytes() < resident + 2 * MIB
        assert read_all(silent) == b""  # its time has passed, or it made room


@pytest.mark.parametrize(
    "address",
    ["", ":9400", "9400x", "-1", "65536", "127.0.0.1:", "127.0.0.1:http", "::1:9400", "[::1]", "[127.0.0.1]:1", "example.org:9400", "1.2.3:80"],
)
def test_an_address_that_is_none_is_refused(gpuroom, address):
    gpuroom.refuses(2, "--listen", arguments=["exporter", f"--listen={address}"])


def test_an_address_in_use_is_told(gpuroom, exporter):
    address = f"127.0.0.1:{exporter.port}"
    gpuroom.refuses(1, address, "Address already in use", "--listen", arguments=["exporter", "--listen", address])


def test_an_address_of_another_machine_is_told(gpuroom):
    gpuroom.refuses(1, "192.0.2.1:0", "cannot be listened on", arguments=["exporter", "--listen", "192.0.2.1:0"])


def test_one_way_at_a_time(gpuroom):
    gpuroom.refuses(2, "--listen", "--textfile", arguments=["exporter"])
    gpuroom.refuses(2, "--listen", "--textfile", arguments=["exporter", "--listen", "0", "--textfile", "-"])


@pytest.mark.parametrize("address, url", [("0", "127.0.0.1"), ("localhost:0", "127.0.0.1"), ("127.0.0.2:0", "127.0.0.2")])
def test_this_machine_alone_reaches_it(gpuroom, folder, address, url):
    exporter = Exporter(gpuroom, folder, address)
    assert exporter.host == url and exporter.ask("/")[0] == 200
    assert exporter.end() == (-signal.SIGTERM, "")


def test_an_address_that_others_reach_is_warned_of(gpuroom, folder):
    exporter = Exporter(gpuroom, folder, "0.0.0.0:0")
    assert "command lines" in exporter.process.stderr.readline()
    assert exporter.ask("/")[0] == 200
    assert exporter.end() == (-signal.SIGTERM, "")


def has_ipv6():
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_ipv6(gpuroom, folder):
    exporter = Exporter(gpuroom, folder, "[::1]:0")
    assert exporter.host == "::1" and exporter.ask("/")[0] == 200
    assert exporter.end() == (-signal.SIGTERM, "")
