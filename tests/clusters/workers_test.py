"""How the tests of this folder reach a worker that does not answer at once."""

import socket

import conftest
import pytest


@pytest.fixture
def full(tmp_path):
    """(listener, path) of a worker whose queue is full."""
    path = tmp_path / "worker.sock"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(path))
        listener.listen(0)
        first.connect(str(path))
        yield listener, path


def test_a_worker_with_a_full_queue_is_waited_for(full, monkeypatch):
    listener, path = full
    monkeypatch.setattr(conftest.time, "sleep", lambda seconds: listener.accept()[0].close())
    worker = conftest.find_worker(path)
    assert worker is not None and worker.pid == conftest.os.getpid()


def test_a_worker_that_ends_with_a_full_queue_has_gone(full, monkeypatch):
    listener, path = full
    monkeypatch.setattr(conftest.time, "sleep", lambda seconds: listener.close())
    assert conftest.find_worker(path) is None
