"""An endpoint that takes the quiz: it knows the right answer to a set share of the probes and is wrong on the rest."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from router_gateway.core.ids import named_uuid
from router_gateway.probing.probes import Probe, packaged_probes, read_probes
from tests.probing.test_probes import replies

TOKENS_INPUT, TOKENS_OUTPUT = 60, 20


@dataclass
class Pupil:
    """`accuracy` is the share of all probes it gets right; `asked` the prompts received, in order."""

    url: str
    probes: dict[str, Probe]
    right: set[str]
    refuses: bool = False
    pause_s: float = 0.0
    asked: list[str] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    @property
    def accuracy(self) -> float:
        return len(self.right) / len(self.probes)


@contextmanager
def taking(share: float, *, reasoner: bool = False) -> Iterator[Pupil]:
    """The endpoint, in a thread. A `reasoner` refuses `max_tokens`, as OpenAI's do."""
    probes = {probe.prompt: probe for probe in read_probes(packaged_probes())}
    order = sorted(probes, key=lambda prompt: named_uuid("quiz", prompt))
    pupil = Pupil(url="", probes=probes, right=set(order[: round(share * len(order))]))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            pupil.bodies.append(body)
            prompt = body["messages"][0]["content"]
            time.sleep(pupil.pause_s)
            if pupil.refuses:
                self._json(503, {"error": {"message": "closed", "type": "server_error"}})
                return
            if reasoner and "max_tokens" in body:
                message = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
                self._json(400, {"error": {"message": message, "type": "invalid_request_error", "param": "max_tokens"}})
                return
            pupil.asked.append(prompt)
            probe = pupil.probes.get(prompt)
            answer = "Nobody asked me that." if probe is None else replies(probe)[0 if prompt in pupil.right else 1]
            message = {"role": "assistant", "content": answer}
            usage = {"prompt_tokens": TOKENS_INPUT, "completion_tokens": TOKENS_OUTPUT, "total_tokens": 80}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "pupil"}
            self._json(200, {**head, "choices": [choice], "usage": usage})

        def _json(self, status: int, payload: object) -> None:
            content = json.dumps(payload).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Tests are quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        pupil.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield pupil
        finally:
            server.shutdown()
            thread.join()
