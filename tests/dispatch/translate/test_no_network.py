import asyncio
import json
import sys

SCRIPT = """
import asyncio, json, sys

seen = []


def note(event, arguments):
    if event == "socket.connect":
        seen.append(["connect", str(arguments[1])])
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        seen.append([event, str(arguments[0])])


sys.addaudithook(note)  # sees every socket of this process, whichever library opens it

from decimal import Decimal

from router_gateway.core.body import Body
from router_gateway.core.ids import uuid7
from router_gateway.core.types import Endpoint
from router_gateway.dispatch.translate import LiteLLMUpstream
from router_gateway.dispatch.upstream import Call

url, key = sys.argv[1:]
kinds = ("input", "output", "cached_input", "cache_write")
prices = {f"price_{kind}_usd_per_mtok": Decimal(1) for kind in kinds}


async def main():
    upstream = LiteLLMUpstream({"claude": key})
    answers = []
    for model, stream in [("claude-sonnet-4-5", False), ("claude-sonnet-4-5", True), ("overloaded", False)]:
        endpoint = Endpoint(
            name="claude", model=f"anthropic/{model}", base_url=url, context_tokens_max=200_000, **prices
        )
        body = {"messages": [{"role": "user", "content": "hello"}], "stream": stream}
        call = Call(query_id=uuid7(), body=Body.parse(json.dumps(body).encode()), stream=stream)
        try:
            reply = await upstream.open(endpoint, call, timeout_s=60)
            answers.append((await reply.content()).decode())
        except Exception as error:
            answers.append(type(error).__name__)
    await upstream.aclose()
    print(json.dumps({"seen": seen, "answers": answers}))


asyncio.run(main())
"""


async def test_the_only_connection_is_to_the_endpoint(anthropic, key):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SCRIPT, anthropic.url, key, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, problems = await process.communicate()
    assert process.returncode == 0, problems.decode()
    result = json.loads(output)
    whole, streamed, failed = result["answers"]
    assert "You said: hello" in whole
    assert streamed.endswith("data: [DONE]\n\n")
    assert failed == "UpstreamRefused"
    host, port = anthropic.url.removeprefix("http://").split(":")
    assert {what for what, _ in result["seen"]} <= {"connect"}
    assert {where for _, where in result["seen"]} == {str((host, int(port)))}
