"""What both files about the HTTP client say and ask."""

import asyncio

from yarl import URL

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
WHOLE = HEAD + b"content-length: 2\r\n\r\nok"


async def post(connections, server, body=b"{}", *, connect_timeout_s=5.0, read_timeout_s=5.0, **headers):
    url = URL(f"{server.base_url}/chat/completions")
    return await connections.post(
        url, body, headers, connect_timeout_s=connect_timeout_s, read_timeout_s=read_timeout_s
    )


async def content_of(answer):
    pieces = []
    while piece := await answer.readany():
        pieces.append(piece)
    answer.close()
    return b"".join(pieces)


def says(*pieces, close=False):
    """A script that sends these bytes, one after another."""

    async def script(exchange):
        for piece in pieces:
            await exchange.send(piece)
            await asyncio.sleep(0.01)
        if close:
            exchange.writer.close()

    return script
