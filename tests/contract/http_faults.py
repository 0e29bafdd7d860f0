"""A proxy between a client and an HTTP service that answers wrongly when it is told to."""

import http.client
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

Answer = tuple[int, list[tuple[str, str]], bytes]
Fault = Callable[[str, str, Answer], Answer | None]
"""What becomes of an answer to (method, path): another one, or None for a connection that is cut."""


class FaultyHttp:
    """Passes requests on to ``port`` and lets ``fault`` change the answers; counts requests by method.

    The methods in ``refused`` are answered with 503, without asking the service.
    """

    def __init__(self, port: int) -> None:
        """Prepare a proxy to a service on this machine."""
        self.fault: Fault | None = None
        self.refused: set[str] = set()
        self.methods: list[str] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(65537)
                if not self.raw_requestline or not self.parse_request():
                    self.close_connection = True
                    return
                body = self.rfile.read(int(self.headers.get("content-length", "0")))
                proxy.methods.append(self.command)
                if self.command in proxy.refused:
                    self._say((503, [], b"no"))
                    return
                back = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
                back.request(self.command, self.path, body, dict(self.headers))
                response = back.getresponse()
                answer: Answer | None = (response.status, response.getheaders(), response.read())
                back.close()
                assert answer
                if proxy.fault:
                    answer = proxy.fault(self.command, self.path, answer)
                if answer is None:
                    self.close_connection = True
                else:
                    self._say(answer)

            def _say(self, answer: Answer) -> None:
                self.send_response_only(answer[0])
                names = {name.lower() for name, _ in answer[1]}
                for name, value in answer[1]:
                    if name.lower() not in {"connection", "transfer-encoding"}:
                        self.send_header(name, value)
                if "content-length" not in names:
                    self.send_header("Content-Length", str(len(answer[2])))
                self.end_headers()
                self.wfile.write(answer[2])

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        """Start to serve."""
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def status(code: int, method: str, times: int) -> Fault:
    """Answer the first ``times`` requests of a method with an error."""
    left = times

    def fault(asked: str, path: str, answer: Answer) -> Answer:
        nonlocal left
        if asked != method or left == 0:
            return answer
        left -= 1
        return code, [("Content-Type", "text/plain")], b"no"

    return fault


def header(method: str, name: str, value: str) -> Fault:
    """Change one header of every answer to a method."""

    def fault(asked: str, path: str, answer: Answer) -> Answer:
        if asked != method:
            return answer
        kept = [item for item in answer[1] if item[0].lower() != name.lower()]
        return answer[0], [*kept, (name, value)], answer[2]

    return fault


def damage(times: int) -> Fault:
    """Flip a bit in the first ``times`` answers to GET that have a body of some length."""
    left = times

    def fault(asked: str, path: str, answer: Answer) -> Answer:
        nonlocal left
        if asked != "GET" or len(answer[2]) < 100 or left == 0 or "list-type" in path:
            return answer
        left -= 1
        return answer[0], answer[1], bytes([answer[2][0] ^ 1]) + answer[2][1:]

    return fault


def cut_short(times: int) -> Fault:
    """Announce whole bodies and break off in the middle, ``times`` times."""
    left = times

    def fault(asked: str, path: str, answer: Answer) -> Answer:
        nonlocal left
        if asked != "GET" or len(answer[2]) < 100 or left == 0 or "list-type" in path:
            return answer
        left -= 1
        return answer[0], [("Connection", "close"), *answer[1]], answer[2][: len(answer[2]) // 2]

    return fault


def silent(seconds: float, times: int) -> Fault:
    """Answer the first ``times`` requests late."""
    left = times

    def fault(asked: str, path: str, answer: Answer) -> Answer:
        nonlocal left
        if left > 0:
            left -= 1
            time.sleep(seconds)
        return answer

    return fault
