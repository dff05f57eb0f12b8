"""The service over real sockets, in a process of its own."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from matinee.exceptions import MatineeError
from matinee.serve import make_token
from matinee.serve.server import check_binding

SCRIPT = Path(__file__).with_name("fake_server.py")
Running = tuple["subprocess.Popen[str]", int]


@contextmanager
def running(folder: Path, generation: int = 1, drain: float = 0.0, timeout: float = 5.0) -> Iterator[Running]:
    """The stand-in in a process of its own, ready; ended at the latest with the block."""
    options = [str(generation), str(drain), "127.0.0.1", "0", str(timeout)]
    command = [sys.executable, str(SCRIPT), str(folder), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline().rsplit(":", 1)[1])
        while ask(port, "GET", "/ready")[0] != 200:
            pass
        yield process, port
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A service that decides on the event loop."""
    with running(tmp_path_factory.mktemp("loop")) as (_, port):
        yield port


@pytest.fixture(scope="module")
def threaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A service that decides in threads and loses its patience soon."""
    with running(tmp_path_factory.mktemp("threads"), generation=0, timeout=2.0) as (_, port):
        yield port


def ask(port: int, method: str, path: str, body: object = None) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body=None if body is None else json.dumps(body))
        reply = connection.getresponse()
        return reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read()
    finally:
        connection.close()


def decide(port: int, seconds: float) -> int:
    return ask(port, "POST", "/decide/home", {"unit": 1, "context": {"seconds": seconds}})[0]


def test_stopping_ends_what_is_in_flight_then_closes_the_studio(tmp_path: Path) -> None:
    with running(tmp_path, generation=0) as (process, port):  # in threads: the loop hears the signal meanwhile
        answers: list[int] = []
        asking = threading.Thread(target=lambda: answers.append(decide(port, 1.0)))
        asking.start()
        time.sleep(0.3)  # it is at work now
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=10)
        asking.join()
    assert answers == [200]
    assert out.split() == ["closed", "closed", "returned"]  # by the application, and by serve() for good measure
    assert process.returncode == 0
    assert "Traceback" not in err


def test_draining_says_so_before_it_stops_accepting(tmp_path: Path) -> None:
    with running(tmp_path, drain=1.0) as (process, port):
        assert ask(port, "GET", "/ready")[0] == 200
        process.send_signal(signal.SIGTERM)
        states = set()
        deadline = time.monotonic() + 0.5
        while time.monotonic() < deadline:
            states.add(ask(port, "GET", "/ready")[0])
            assert decide(port, 0) == 200  # still served while the balancer looks away
        assert 503 in states
        process.communicate(timeout=10)
        assert process.returncode == 0
    with pytest.raises(ConnectionRefusedError):
        ask(port, "GET", "/ready")


def test_a_hundred_megabytes_are_refused_unread(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        head = b"POST /decide/home HTTP/1.1\r\nHost: localhost\r\nContent-Length: 104857600\r\n\r\n"
        sock.sendall(head + b"x" * 1000)
        reply = b""
        while piece := sock.recv(4096):  # ends when the server closes, long before the body would
            reply += piece
    assert reply.startswith(b"HTTP/1.1 413")
    assert b'"code":"too_large"' in reply
    assert decide(port, 0) == 200


def test_a_body_without_length_is_cut_off_too(port: int) -> None:
    sent = 0
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(b"POST /outcome HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        with pytest.raises(OSError):  # reset or broken pipe, as the kernel likes
            while sent < 100 << 20:
                sock.sendall(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
                sent += 0x10000
    assert sent < 20 << 20


def test_a_body_that_dawdles_is_given_up(threaded: int) -> None:
    with socket.create_connection(("127.0.0.1", threaded), timeout=10) as sock:
        sock.sendall(b'POST /decide/home HTTP/1.1\r\nHost: localhost\r\nContent-Length: 42\r\n\r\n{"unit"')
        reply = b""
        while piece := sock.recv(4096):
            reply += piece
    assert reply.startswith(b"HTTP/1.1 408")
    assert b"the body did not come within 2 s" in reply


def test_answers_are_not_held_back_by_the_network(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    seconds = []
    for _ in range(15):  # on one connection: with Nagle's algorithm each would take 40 ms
        begin = time.perf_counter()
        connection.request("POST", "/decide/home", body=b'{"unit": 1}')
        connection.getresponse().read()
        seconds.append(time.perf_counter() - begin)
    connection.close()
    assert sorted(seconds)[3] < 0.03


def test_more_than_fits_is_turned_away_at_once(threaded: int) -> None:
    statuses: list[int] = []
    lock = threading.Lock()

    def one() -> None:
        status, headers, body = ask(threaded, "POST", "/decide/home", {"unit": 1, "context": {"seconds": 0.7}})
        with lock:
            statuses.append(status)
        if status == 503:
            assert headers["retry-after"] == "1"
            assert json.loads(body)["error"]["code"] == "overloaded"

    begin = time.monotonic()
    crowd = [threading.Thread(target=one) for _ in range(20)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()
    assert time.monotonic() - begin < 2.5  # nobody waited for a second round
    assert statuses.count(200) == 4
    assert statuses.count(503) == 16
    assert decide(threaded, 0) == 200


def test_a_crowd_on_the_event_loop_is_counted_before_it_is_answered(port: int) -> None:
    request = (
        b"POST /decide/home HTTP/1.1\r\nHost: localhost\r\nContent-Length: 42\r\n\r\n"
        b'{"unit": 1, "context": {"seconds": 0.20 }}'
    )
    sockets = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(30)]
    try:
        sockets[0].sendall(request)  # keeps the loop busy while the others arrive
        time.sleep(0.05)
        for sock in sockets[1:]:
            sock.sendall(request)
        statuses = [int(sock.recv(65_536).split(b" ")[1]) for sock in sockets]
    finally:
        for sock in sockets:
            sock.close()
    assert statuses.count(503) >= 20
    assert statuses.count(200) <= 9


def test_binding_elsewhere_needs_tokens(tmp_path: Path) -> None:
    class Here:
        root = tmp_path

    check_binding(Here(), "127.0.0.1")  # type: ignore[arg-type]  # a stand-in
    check_binding(Here(), "::1")  # type: ignore[arg-type]  # a stand-in
    with pytest.raises(MatineeError, match=r"host == '0.0.0.0', must be 127.0.0.1 .*`matinee token service"):
        check_binding(Here(), "0.0.0.0")  # type: ignore[arg-type]  # a stand-in
    make_token(tmp_path, "viewer")
    with pytest.raises(MatineeError, match="has no tokens"):
        check_binding(Here(), "0.0.0.0")  # type: ignore[arg-type]  # a stand-in
    make_token(tmp_path, "service")
    check_binding(Here(), "0.0.0.0")  # type: ignore[arg-type]  # a stand-in


def test_a_port_in_use_is_said_in_words(port: int, tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), str(tmp_path), "1", "0", "127.0.0.1", str(port), "5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert done.returncode == 1
    assert f"port == {port} on '127.0.0.1' cannot be used (Address already in use), must be a free one" in done.stderr
