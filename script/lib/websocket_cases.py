"""WebSockets (RFC 6455) through the proxy: what comes back must be what comes back without it.

Every case is a sequence of frames, good or bad, that is sent to an echo server of the `websockets`
library: to it directly, and through the proxy over HTTP/1.1, TLS and HTTP/2 (RFC 8441). The bytes
of the answers up to the end of the connection must be the same.
"""

import asyncio
import base64
import contextlib
import os
import ssl
import struct

import h2_wire
import websockets.asyncio.server
import websockets.exceptions

DEADLINE = 20
TEXT, BINARY, CLOSE, PING, PONG, CONTINUATION = 1, 2, 8, 9, 10, 0
MASK = bytes([7, 5, 3, 1])


def echo_server():
    async def echo(connection):
        # A client may say its last word before it has heard all.
        with contextlib.suppress(websockets.exceptions.ConnectionClosed):
            async for message in connection:
                await connection.send(message)

    # Compression would make answers depend on the peer's offers; pings of its own on the clock.
    return websockets.asyncio.server.serve(
        echo, "127.0.0.1", 0, compression=None, ping_interval=None, max_size=4 << 20, close_timeout=2
    )


def frame(opcode, payload=b"", final=True, reserved=0, masked=True):
    first = (0x80 if final else 0) | reserved << 4 | opcode
    mark = 0x80 if masked else 0
    if len(payload) < 126:
        head = struct.pack("!BB", first, mark | len(payload))
    elif len(payload) < 1 << 16:
        head = struct.pack("!BBH", first, mark | 126, len(payload))
    else:
        head = struct.pack("!BBQ", first, mark | 127, len(payload))
    if not masked:
        return head + payload
    keys = (MASK * (len(payload) // 4 + 1))[: len(payload)]
    mixed = int.from_bytes(payload, "big") ^ int.from_bytes(keys, "big")
    return head + MASK + mixed.to_bytes(len(payload), "big")


def close(code=1000, reason=b""):
    return frame(CLOSE, struct.pack("!H", code) + reason)


def heard(opcode, *payloads):
    """Waits for the echoes of messages: a server may end at the word of close, with echoes unsaid."""
    return sum(len(frame(opcode, payload, masked=False)) for payload in payloads)


def cases():
    """Names and the pieces in which the bytes are written; a number waits for so many bytes."""
    for kind, opcode in (("text", TEXT), ("binary", BINARY)):
        for size in (0, 1, 125, 126, 127, 128, 65535, 65536, 1 << 20):
            message = b"*" * size
            yield f"{kind} of {size} bytes", [frame(opcode, message), heard(opcode, message), close()]
    small = frame(TEXT, b"byte by byte")
    letters = [small[at : at + 1] for at in range(len(small))]
    yield "one byte a write", [*letters, heard(TEXT, b"byte by byte"), close()]
    numbers = [b"%d" % number for number in range(200)]
    many = b"".join(frame(TEXT, number) for number in numbers)
    yield "200 messages in one write", [many, heard(TEXT, *numbers), close()]
    pieces = [frame(TEXT, b"a" * 1000, final=False)]
    pieces += [frame(CONTINUATION, b"b" * 1000, final=False) for _ in range(100)]
    whole = b"a" * 1000 + b"b" * 100_000 + b"c"
    yield "a message of 102 fragments", [*pieces, frame(CONTINUATION, b"c"), heard(TEXT, whole), close()]
    yield "a ping between fragments", [
        frame(TEXT, b"one ", final=False), frame(PING, b"?"), frame(CONTINUATION, b"two"),
        heard(PONG, b"?") + heard(TEXT, b"one two"), close(),
    ]
    for size in (0, 1, 125):
        yield f"ping of {size} bytes", [frame(PING, b"p" * size), close()]
    yield "10 pings", [frame(PING, b"%d" % number) for number in range(10)] + [close()]
    yield "a pong nobody asked for", [frame(PONG, b"!"), close()]
    yield "ping of 126 bytes", [frame(PING, b"p" * 126)]
    yield "a ping in fragments", [frame(PING, b"p", final=False), frame(CONTINUATION, b"q")]
    for bits in (1, 2, 4, 7):
        yield f"reserved bits {bits:03b}", [frame(TEXT, b"x", reserved=bits)]
    for opcode in (3, 7, 11, 15):
        yield f"reserved opcode {opcode}", [frame(opcode, b"x")]
    yield "a frame without mask", [frame(TEXT, b"x", masked=False)]
    yield "a continuation of nothing", [frame(CONTINUATION, b"x")]
    yield "a message inside a message", [frame(TEXT, b"x", final=False), frame(TEXT, b"y")]
    for text in (b"\xce\xba\xe1\xbd\xb9", b"\xf0\x9f\x9a\xa2"):
        yield f"UTF-8 {text.hex()}", [frame(TEXT, text), heard(TEXT, text), close()]
    yield "UTF-8 cut by a fragment", [
        frame(TEXT, b"\xf0\x9f", final=False), frame(CONTINUATION, b"\x9a\xa2"),
        heard(TEXT, b"\xf0\x9f\x9a\xa2"), close(),
    ]
    for text in (b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"ok\xce"):
        yield f"invalid UTF-8 {text.hex()}", [frame(TEXT, text)]
    for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999):
        yield f"close {code}", [close(code, b"bye")]
    for code in (0, 999, 1004, 1005, 1006, 1016, 2999, 5000):
        yield f"invalid close {code}", [close(code)]
    yield "close without code", [frame(CLOSE)]
    yield "close with half a code", [frame(CLOSE, b"\x03")]
    yield "close with invalid UTF-8", [close(1000, b"\xff")]
    yield "close of 126 bytes", [frame(CLOSE, b"\x03\xe8" + b"r" * 124)]
    yield "a message after close", [close() + frame(TEXT, b"late")]
    yield "the end without close", []


async def exchange(reader, writer, pieces):
    """Writes the pieces and returns all that comes until the end."""
    answer = b""
    more = asyncio.Event()

    async def write():
        for piece in pieces:
            if isinstance(piece, int):
                while len(answer) < piece:
                    more.clear()
                    await more.wait()
                continue
            writer.write(piece)
            await writer.drain()
        if not pieces:
            writer.write_eof()

    writing = asyncio.create_task(write())
    while data := await reader.read(1 << 16):
        answer += data
        more.set()
    # The server may have closed before it took all.
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    writer.close()
    return answer


async def over_http1(address, host, pieces, context=None):
    options = {"ssl": context, "server_hostname": host} if context else {}
    reader, writer = await asyncio.open_connection(*address, limit=1 << 22, **options)
    key = base64.b64encode(os.urandom(16)).decode()
    writer.write(
        f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
    )
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 101"):
        return head
    if context and not pieces:
        # TLS of this library has no half-closed state: the end is the end.
        pieces = [close()]
    return await exchange(reader, writer, pieces)


async def over_http2(address, host, pieces):
    return await asyncio.to_thread(h2_wire.websocket, address, host, pieces)


async def transcript(way, pieces):
    try:
        return await asyncio.wait_for(way(pieces), DEADLINE)
    except (TimeoutError, OSError, EOFError, ssl.SSLError) as error:
        return f"{type(error).__name__}: {error}".encode()


async def run(proxy, host, echo):
    context = ssl.create_default_context(cafile=proxy.ca)
    context.set_alpn_protocols(["http/1.1"])
    direct = ("127.0.0.1", echo)
    plain, secure = ("127.0.0.1", proxy.http), ("127.0.0.1", proxy.https)
    ways = {
        "HTTP/1.1": lambda pieces: over_http1(plain, host, pieces),
        "TLS": lambda pieces: over_http1(secure, host, pieces, context),
        "HTTP/2": lambda pieces: over_http2(plain, host, pieces),
    }
    wrong = {way: [] for way in ways}
    count = 0
    for name, pieces in cases():
        count += 1
        expected = await transcript(lambda pieces: over_http1(direct, host, pieces), pieces)
        for way, ask in ways.items():
            if way == "TLS" and not pieces:
                continue
            answer = await transcript(ask, pieces)
            if answer != expected:
                wrong[way].append(f"{name}: {answer[:80]!r}, without the proxy {expected[:80]!r}")
    for way, failures in wrong.items():
        print(f"websocket: {way}: {count - len(failures)} of {count} cases as without the proxy")
        for failure in failures:
            print(f"       {failure}")
    return not any(wrong.values())
