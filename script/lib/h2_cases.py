"""Violations of RFC 9113 and RFC 7541, and what the RFC says happens.

A stream error may be treated as a connection error (RFC 9113 section 5.4.2), and a connection may
be closed without a GOAWAY having arrived (section 5.4.1). The generic rule is applied to every
case: where a stream error is due, a RST_STREAM, a GOAWAY, the end of the connection, or, for a
request that is malformed, a 400 (section 8.1.1).
"""

import struct

import h2_wire as h2
from h2_wire import Client, frame, settings

CASES = []


def case(section, title, *expected):
    def register(act):
        CASES.append((section, title, expected, act))
        return act

    return register


def connection_error(*codes):
    return [f"GOAWAY {code}" for code in codes] + ["closed"]


def stream_error(*codes):
    return [f"RST_STREAM {code}" for code in codes] + connection_error(*codes)


def malformed():
    return ["answer 400", *stream_error("PROTOCOL_ERROR")]


# -- connections and frames ---------------------------------------------------------------------


@case("3.4", "a preface that is not one", "closed", "GOAWAY PROTOCOL_ERROR")
def _(address, host):
    return Client(address, host, h2.PREFACE[:-4] + b"XX\r\n" + settings()).outcome()


@case("3.4", "a first frame that is not SETTINGS", *connection_error("PROTOCOL_ERROR"))
def _(address, host):
    client = Client(address, host, h2.PREFACE + frame(h2.PING, payload=b"8 bytes."))
    client.await_settings()
    return client.outcome()


@case("4.1", "a frame of an unknown type is ignored", "PING")
def _(address, host):
    client = Client(address, host)
    client.send(frame(0x77, 0xFF, 0, b"whatever") + frame(h2.PING, payload=b"8 bytes."))
    return client.outcome()


@case("4.1", "undefined flags and the reserved bit are ignored", "PING")
def _(address, host):
    client = Client(address, host)
    client.send(frame(h2.PING, 0xFE, 0, b"8 bytes."))
    return client.outcome()


@case("4.2", "DATA over the frame size", *connection_error("FRAME_SIZE_ERROR"), "RST_STREAM FRAME_SIZE_ERROR")
def _(address, host):
    client = Client(address, host)
    client.headers(1, method="POST", flags=h2.END_HEADERS)
    client.send(frame(h2.DATA, h2.END_STREAM, 1, b"x" * 16385))
    return client.outcome()


@case("4.2", "HEADERS over the frame size", *connection_error("FRAME_SIZE_ERROR"))
def _(address, host):
    client = Client(address, host)
    client.headers(1, ("x", "y" * 17000))
    return client.outcome()


@case("4.3", "a header block that cannot be decompressed", *connection_error("COMPRESSION_ERROR"))
def _(address, host):
    client = Client(address, host)
    # Literal with an index of the dynamic table that does not exist.
    client.send(frame(h2.HEADERS, h2.END_STREAM | h2.END_HEADERS, 1, b"\x7f\xff\xff\x01\x01x"))
    return client.outcome()


@case("4.3", "another frame inside a header block", *connection_error("PROTOCOL_ERROR"))
def _(address, host):
    client = Client(address, host)
    block = client.request()
    client.send(frame(h2.HEADERS, h2.END_STREAM, 1, block[:3]) + frame(h2.PING, payload=b"8 bytes."))
    return client.outcome()


@case("4.3", "HEADERS of another stream inside a header block", *connection_error("PROTOCOL_ERROR"))
def _(address, host):
    client = Client(address, host)
    block = client.request()
    client.send(frame(h2.HEADERS, h2.END_STREAM, 1, block[:3]))
    client.send(frame(h2.HEADERS, h2.END_STREAM | h2.END_HEADERS, 3, block))
    return client.outcome()


# -- streams ------------------------------------------------------------------------------------


for kind, payload in ((h2.DATA, b"x"), (h2.RST_STREAM, bytes(4)), (h2.WINDOW_UPDATE, b"\0\0\0\1")):

    @case("5.1", f"frame of type {kind} on an idle stream", *connection_error("PROTOCOL_ERROR"))
    def _(address, host, kind=kind, payload=payload):
        client = Client(address, host)
        client.send(frame(kind, 0, 1, payload))
        return client.outcome()


@case("5.1", "CONTINUATION without HEADERS", *connection_error("PROTOCOL_ERROR"))
def _(address, host):
    client = Client(address, host)
    client.send(frame(h2.CONTINUATION, h2.END_HEADERS, 1, client.request()))
    return client.outcome()


@case("5.1", "DATA after END_STREAM", *stream_error("STREAM_CLOSED"), "answer 200")
def _(address, host):
    client = Client(address, host)
    client.headers(1)
    client.send(frame(h2.DATA, h2.END_STREAM, 1, b"x"))
    return client.outcome()


@case("5.1", "DATA on a stream that has ended for long", *connection_error("STREAM_CLOSED"), "RST_STREAM STREAM_CLOSED")
def _(address, host):
    client = Client(address, host)
    client.headers(1)
    assert client.outcome() == "answer 200"
    client.send(frame(h2.DATA, h2.END_STREAM, 1, b"x"))
    return client.outcome()


@case("5.1", "HEADERS on a stream that has ended for long", *connection_error("STREAM_CLOSED", "PROTOCOL_ERROR"), "RST_STREAM STREAM_CLOSED")
def _(address, host):
    client = Client(address, host)
    client.headers(1)
    assert client.outcome() == "answer 200"
    client.headers(1)
    return client.outcome()


@case("5.1.1", "a stream of an even number", *connection_error("PROTOCOL_ERROR"))
def _(address, host):
    client = Client(address, host)
    client.headers(2)
    return client.outcome(2)


@case("5.1.1", "a stream number below the last", *connection_error("PROTOCOL_ERROR", "STREAM_CLOSED"), "RST_STREAM STREAM_CLOSED")
def _(address, host):
    client = Client(address, host)
    client.headers(5)
    assert client.outcome(5) == "answer 200"
    client.headers(3)
    return client.outcome(3)


@case("5.1.2", "more streams than the server allows", *stream_error("REFUSED_STREAM", "PROTOCOL_ERROR", "ENHANCE_YOUR_CALM"))
def _(address, host):
    client = Client(address, host)
    allowed = client.settings.get(3, 1 << 31)
    assert allowed <= 1000, f"the server allows {allowed} streams"
    last = 1
    for number in range(allowed + 1):
        last = 1 + 2 * number
        # With a body to come, so that none of them ends.
        client.headers(last, method="POST", flags=h2.END_HEADERS)
    return client.outcome(last)


# -- each frame ---------------------------------------------------------------------------------


@case("6.1", "DATA on stream 0", *connection_error("PROTOCOL_ERROR"))
def _(address, host):
    client = Client(address, host)
    client.send(frame(h2.DATA, 0, 0, b"x"))
    return client.outcome()


@case("6.1", "padding longer than DATA", *connection_error("PROTOCOL_ERROR"))
def _(address, host):
    client = Client(address, host)
    client.headers(1, method="POST", flags=h2.END_HEADERS)
    client.send(frame(h2.DATA, h2.END_STREAM | h2.PADDED, 1, b"\x09x"))
    return client.outcome()


@case("6.1", "padded DATA is read", "answer 200")
def _(address, host):
    client = Client(address, host)
    client.headers(1, method="POST", flags=h2.END_HEADERS)
    client.send(frame(h2.DATA, h2.END_STREAM | h2.PADDED, 1, b"\x05hello" + bytes(5)))
    return client.outcome()


@case("6.2", "HEADERS on stream 0", *connection_error("PROTOCOL_ERROR"))
def _(address, host):
    client = Client(address, host)
    client.headers(0)
    return client.outcome()


@case("6.2", "padding longer than HEADERS", *connection_error("PROTOCOL_ERROR"))
def _(address, host):
    client = Client(address, host)
    block = client.request()
    client.send(frame(h2.HEADERS, h2.END_STREAM | h2.END_HEADERS | h2.PADDED, 1, b"\xff" + block))
    return client.outcome()


@case("6.2", "padded HEADERS with a priority", "answer 200")
def _(address, host):
    client = Client(address, host)
    payload = b"\x03" + struct.pack("!IB", 0, 15) + client.request() + bytes(3)
    flags = h2.END_STREAM | h2.END_HEADERS | h2.PADDED | h2.PRIORITIZED
    client.send(frame(h2.HEADERS, flags, 1, payload))
    return client.outcome()


@case("6.3", "PRIORITY on stream 0", *connection_error("PROTOCOL_ERROR"))
def _(address, host):
    client = Client(address, host)
    client.send(frame(h2.PRIORITY, 0, 0, bytes(5)))
    return client.outcome()


@case("6.3", "PRIORITY of a wrong size", *stream_error("FRAME_SIZE_ERROR"))
def _(address, host):
    client = Client(address, host)
    client.headers(1, method="POST", flags=h2.END_HEADERS)
    client.send(frame(h2.PRIORITY, 0, 1, bytes(4)))
    return client.outcome()


@case("6.3", "PRIORITY of an idle stream is ignored", "PING")
def _(address, host):
    client = Client(address, host)
    client.send(frame(h2.PRIORITY, 0, 7, struct.pack("!IB", 0, 1)) + frame(h2.PING, payload=b"8 bytes."))
    return client.outcome()


@case("6.4", "RST_STREAM on stream 0", *connection_error("PROTOCOL_ERROR"))
def _(address, host):
    client = Client(address, host)
    client.send(frame(h2.RST_STREAM, 0, 0, bytes(4)))
    return client.outcome()


@case("6.4", "RST_STREAM of a wrong size", *connection_error("FRAME_SIZE_ERROR"))
def _(address, host):
    client = Client(address, host)
    client.headers(1, method="POST", flags=h2.END_HEADERS)
    client.send(frame(h2.RST_STREAM, 0, 1, bytes(3)))
    return client.outcome()


@case("6.5", "SETTINGS on a stream", *connection_error("PROTOCOL_ERROR"))
def _(address, host):
    client = Client(address, host)
    client.send(frame(h2.SETTINGS, 0, 1))
    return client.outcome()


@case("6.5", "SETTINGS of a wrong size", *connection_error("FRAME_SIZE_ERROR"))
def _(address, host):
    client = Client(address, host)
    client.send(frame(h2.SETTINGS, 0, 0, bytes(5)))
    return client.outcome()


@case("6.5", "an acknowledgment with a payload", *connection_error("FRAME_SIZE_ERROR"))
def _(address, host):
    client = Client(address, host)
    client.send(frame(h2.SETTINGS, h2.ACK, 0, bytes(6)))
    return client.outcome()


for name, pair, codes in (
    ("ENABLE_PUSH of 2", (2, 2), ["PROTOCOL_ERROR"]),
    ("INITIAL_WINDOW_SIZE over 2^31-1", (4, 1 << 31), ["FLOW_CONTROL_ERROR"]),
    ("MAX_FRAME_SIZE below 16384", (5, 16383), ["PROTOCOL_ERROR"]),
    ("MAX_FRAME_SIZE over 2^24-1", (5, 1 << 24), ["PROTOCOL_ERROR"]),
):

    @case("6.5.2", name, *connection_error(*codes))
    def _(address, host, pair=pair):
        client = Client(address, host)
        client.send(settings(pair))
        return client.outcome()


@case("6.5.2", "an unknown setting is ignored", "PING")
def _(address, host):
    client = Client(address, host)
    client.send(settings((0x7777, 1)) + frame(h2.PING, payload=b"8 bytes."))
    return client.outcome()


@case("6.6", "PUSH_PROMISE of a client", *connection_error("PROTOCOL_ERROR"))
def _(address, host):
    client = Client(address, host)
    client.headers(1, method="POST", flags=h2.END_HEADERS)
    client.send(frame(h2.PUSH_PROMISE, h2.END_HEADERS, 1, struct.pack("!I", 2) + client.request()))
    return client.outcome()


@case("6.7", "PING is answered", "PING")
def _(address, host):
    client = Client(address, host)
    client.send(frame(h2.PING, payload=b"8 bytes."))
    return client.outcome()


@case("6.7", "PING on a stream", *connection_error("PROTOCOL_ERROR"))
def _(address, host):
    client = Client(address, host)
    client.send(frame(h2.PING, 0, 1, b"8 bytes."))
    return client.outcome()


@case("6.7", "PING of a wrong size", *connection_error("FRAME_SIZE_ERROR"))
def _(address, host):
    client = Client(address, host)
    client.send(frame(h2.PING, payload=b"6bytes"))
    return client.outcome()


@case("6.8", "GOAWAY on a stream", *connection_error("PROTOCOL_ERROR"))
def _(address, host):
    client = Client(address, host)
    client.send(frame(h2.GOAWAY, 0, 1, bytes(8)))
    return client.outcome()


@case("6.9", "WINDOW_UPDATE of 0 on the connection", *connection_error("PROTOCOL_ERROR"))
def _(address, host):
    client = Client(address, host)
    client.send(frame(h2.WINDOW_UPDATE, 0, 0, bytes(4)))
    return client.outcome()


@case("6.9", "WINDOW_UPDATE of 0 on a stream", *stream_error("PROTOCOL_ERROR"))
def _(address, host):
    client = Client(address, host)
    client.headers(1, method="POST", flags=h2.END_HEADERS)
    client.send(frame(h2.WINDOW_UPDATE, 0, 1, bytes(4)))
    return client.outcome()


@case("6.9", "WINDOW_UPDATE of a wrong size", *connection_error("FRAME_SIZE_ERROR"))
def _(address, host):
    client = Client(address, host)
    client.send(frame(h2.WINDOW_UPDATE, 0, 0, bytes(3)))
    return client.outcome()


@case("6.9.1", "the connection's window over 2^31-1", *connection_error("FLOW_CONTROL_ERROR"))
def _(address, host):
    client = Client(address, host)
    client.send(frame(h2.WINDOW_UPDATE, 0, 0, struct.pack("!I", (1 << 31) - 1)) * 2)
    return client.outcome()


@case("6.9.1", "a stream's window over 2^31-1", *stream_error("FLOW_CONTROL_ERROR"))
def _(address, host):
    client = Client(address, host)
    client.headers(1, method="POST", flags=h2.END_HEADERS)
    client.send(frame(h2.WINDOW_UPDATE, 0, 1, struct.pack("!I", (1 << 31) - 1)) * 2)
    return client.outcome()


@case("6.9.1", "DATA past the window", *stream_error("FLOW_CONTROL_ERROR"), "answer 200")
def _(address, host):
    # A server that takes the body as it comes gives the window back meanwhile: then it is whole.
    client = Client(address, host)
    client.headers(1, method="POST", flags=h2.END_HEADERS)
    last = 20
    for number in range(last + 1):
        client.send(frame(h2.DATA, h2.END_STREAM if number == last else 0, 1, bytes(16384)))
    return client.outcome()


@case("6.9.2", "a window of 0 stops the body until it is opened", "answer 200")
def _(address, host):
    client = Client(address, host)
    client.send(settings((4, 0)))
    client.headers(1)
    while True:
        kind, _, stream, _ = client.read()
        assert kind != h2.DATA, "DATA came without a window"
        if kind == h2.HEADERS and stream == 1:
            break
    client.send(frame(h2.WINDOW_UPDATE, 0, 1, struct.pack("!I", 1 << 20)))
    client.decoder = h2.hpack.Decoder()
    return "answer 200" if client.outcome().startswith("answer") else "nothing"


@case("6.10", "a header block in many pieces", "answer 200")
def _(address, host):
    client = Client(address, host)
    block = client.request(("x-a", "1"), ("x-b", "2"))
    pieces = [block[at : at + 3] for at in range(0, len(block), 3)]
    client.send(frame(h2.HEADERS, h2.END_STREAM, 1, pieces[0]))
    for piece in pieces[1:-1]:
        client.send(frame(h2.CONTINUATION, 0, 1, piece))
    client.send(frame(h2.CONTINUATION, h2.END_HEADERS, 1, pieces[-1]))
    return client.outcome()


@case("6.10", "CONTINUATION on another stream", *connection_error("PROTOCOL_ERROR"))
def _(address, host):
    client = Client(address, host)
    block = client.request()
    client.send(frame(h2.HEADERS, h2.END_STREAM, 1, block[:3]))
    client.send(frame(h2.CONTINUATION, h2.END_HEADERS, 3, block[3:]))
    return client.outcome()


# -- messages -----------------------------------------------------------------------------------


@case("8.1", "a plain request", "answer 200")
def _(address, host):
    client = Client(address, host)
    client.headers(1)
    return client.outcome()


@case("8.1", "a body with trailers", "answer 200")
def _(address, host):
    client = Client(address, host)
    client.headers(1, method="POST", flags=h2.END_HEADERS)
    client.send(frame(h2.DATA, 0, 1, b"hello"))
    trailers = client.encoder.encode([("x-checksum", "1")])
    client.send(frame(h2.HEADERS, h2.END_STREAM | h2.END_HEADERS, 1, trailers))
    return client.outcome()


@case("8.1", "trailers without END_STREAM", *malformed())
def _(address, host):
    client = Client(address, host)
    client.headers(1, method="POST", flags=h2.END_HEADERS)
    client.send(frame(h2.DATA, 0, 1, b"hello"))
    client.send(frame(h2.HEADERS, h2.END_HEADERS, 1, client.encoder.encode([("x", "1")])))
    return client.outcome()


@case("8.1", "pseudo fields in trailers", *malformed())
def _(address, host):
    client = Client(address, host)
    client.headers(1, method="POST", flags=h2.END_HEADERS)
    client.send(frame(h2.DATA, 0, 1, b"hello"))
    trailers = client.encoder.encode([(":method", "GET")])
    client.send(frame(h2.HEADERS, h2.END_STREAM | h2.END_HEADERS, 1, trailers))
    return client.outcome()


for title, fields in (
    ("an upper-case field name", [("X-Upper", "1")]),
    ("a space in a field name", [("x y", "1")]),
    ("a colon in a field name", [("x:y", "1")]),
    ("a line feed in a value", [("x", "1\n2")]),
    ("a NUL in a value", [("x", "1\x002")]),
    ("Connection", [("connection", "keep-alive")]),
    ("Transfer-Encoding", [("transfer-encoding", "chunked")]),
    ("Keep-Alive", [("keep-alive", "5")]),
    ("Proxy-Connection", [("proxy-connection", "keep-alive")]),
    ("Upgrade", [("upgrade", "websocket")]),
    ("TE other than trailers", [("te", "gzip")]),
    ("an unknown pseudo field", [(":path2", "/")]),
    ("a pseudo field of responses", [(":status", "200")]),
    ("a pseudo field twice", [(":method", "GET")]),
    ("two content lengths", [("content-length", "1"), ("content-length", "2")]),
    ("another Host than the authority", [("host", "evil.example")]),
):

    @case("8.2-8.3", title, *malformed())
    def _(address, host, fields=fields):
        client = Client(address, host)
        client.headers(1, *fields)
        return client.outcome()


@case("8.2.2", "TE: trailers passes", "answer 200")
def _(address, host):
    client = Client(address, host)
    client.headers(1, ("te", "trailers"))
    return client.outcome()


for name in ("method", "scheme", "path"):

    @case("8.3.1", f"no :{name}", *malformed())
    def _(address, host, name=name):
        client = Client(address, host)
        client.headers(1, **{name: None})
        return client.outcome()


for title, pseudo in (
    ("an empty path", {"path": ""}),
    ("a path without slash", {"path": "index.html"}),
    ("user information in the authority", {"authority": "user@localhost"}),
    ("a space in the path", {"path": "/a b"}),
    ("a line feed in the path", {"path": "/a\r\nHost: evil"}),
    ("a space in the method", {"method": "GET / HTTP/1.1"}),
):

    @case("8.3.1", title, *malformed())
    def _(address, host, pseudo=pseudo):
        client = Client(address, host)
        client.headers(1, **pseudo)
        return client.outcome()


@case("8.3", "a pseudo field after others", *malformed())
def _(address, host):
    client = Client(address, host)
    fields = [(":method", "GET"), (":scheme", "http"), ("x", "1"), (":authority", host), (":path", "/")]
    client.send(frame(h2.HEADERS, h2.END_STREAM | h2.END_HEADERS, 1, client.encoder.encode(fields)))
    return client.outcome()


@case("8.1.1", "more body than Content-Length", *malformed())
def _(address, host):
    client = Client(address, host)
    client.headers(1, ("content-length", "1"), method="POST", flags=h2.END_HEADERS)
    client.send(frame(h2.DATA, h2.END_STREAM, 1, b"hello"))
    return client.outcome()


@case("8.1.1", "less body than Content-Length", *malformed())
def _(address, host):
    client = Client(address, host)
    client.headers(1, ("content-length", "10"), method="POST", flags=h2.END_HEADERS)
    client.send(frame(h2.DATA, h2.END_STREAM, 1, b"hello"))
    return client.outcome()


@case("8.5", "CONNECT is no way out", "answer 501", "answer 405", *malformed())
def _(address, host):
    client = Client(address, host)
    client.headers(1, method="CONNECT", scheme=None, path=None, authority="127.0.0.1:22")
    return client.outcome()


# -- header compression (RFC 7541) ----------------------------------------------------------------


for title, block in (
    ("index 0", b"\x80"),
    ("an index past the table", b"\xff\x80\x01"),
    ("Huffman padding of more than 7 bits", b"\x00\x85\xf2\xb2\x4a\x84\xff\x84\xee\x3a\x3f\xff"),
    ("Huffman with the end symbol", b"\x00\x85\xf2\xb2\x4a\x84\xff\x84\xff\xff\xff\xff"),
    ("a table size over the setting", b"\x3f\xff\xff\x7f"),
    ("an integer that overflows", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x0f"),
):

    @case("7541", title, *connection_error("COMPRESSION_ERROR"))
    def _(address, host, block=block):
        client = Client(address, host)
        head = client.request()
        block = block if block[0] == 0x3F else head + block
        client.send(frame(h2.HEADERS, h2.END_STREAM | h2.END_HEADERS, 1, block))
        return client.outcome()


@case("7541", "a table size update after a field", *connection_error("COMPRESSION_ERROR"))
def _(address, host):
    client = Client(address, host)
    client.send(frame(h2.HEADERS, h2.END_STREAM | h2.END_HEADERS, 1, client.request() + b"\x20"))
    return client.outcome()


# -- floods ---------------------------------------------------------------------------------------


def flood(client, data, times):
    """Sends until the server has enough of it; says what it did."""
    try:
        for _ in range(times):
            client.send(data() if callable(data) else data)
    except OSError:
        pass
    return client.outcome(0)


@case("CVE-2023-44487", "rapid reset is ended", "GOAWAY NO_ERROR", "GOAWAY ENHANCE_YOUR_CALM", "GOAWAY PROTOCOL_ERROR", "closed")
def _(address, host):
    client = Client(address, host)
    streams = iter(range(1, 1 << 30, 2))

    def burst():
        data = b""
        for _ in range(50):
            stream = next(streams)
            data += frame(h2.HEADERS, h2.END_STREAM | h2.END_HEADERS, stream, client.request())
            data += frame(h2.RST_STREAM, 0, stream, struct.pack("!I", 8))
        return data

    return flood(client, burst, 200)


@case("CVE-2024-27316", "a CONTINUATION flood is ended", *connection_error("ENHANCE_YOUR_CALM", "PROTOCOL_ERROR", "COMPRESSION_ERROR"), "RST_STREAM PROTOCOL_ERROR")
def _(address, host):
    client = Client(address, host)
    client.send(frame(h2.HEADERS, h2.END_STREAM, 1, client.request()))
    piece = client.encoder.encode([("x-flood", "y" * 8000)], huffman=False)
    return flood(client, frame(h2.CONTINUATION, 0, 1, piece), 400)


@case("CVE-2019-9515", "a SETTINGS flood costs no memory", "PING", *connection_error("ENHANCE_YOUR_CALM"))
def _(address, host):
    client = Client(address, host)
    flood_of = settings((3, 100)) * 100
    client.socket.settimeout(5)
    return served_after(client, flood_of, 100)


@case("CVE-2019-9512", "a PING flood costs no memory", "PING", *connection_error("ENHANCE_YOUR_CALM"))
def _(address, host):
    client = Client(address, host)
    client.socket.settimeout(5)
    return served_after(client, frame(h2.PING, payload=b"8 bytes.") * 100, 100)


def served_after(client, data, times):
    """Reads meanwhile, as an honest client does; then asks for a last answer."""
    import threading

    outcome = []

    def read():
        while True:
            outcome[:] = [client.outcome(0)]
            if outcome[0] != "PING":
                return

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        for _ in range(times):
            client.send(data)
        client.send(frame(h2.PING, payload=b"the last"))
    except OSError:
        pass
    reader.join(8)
    return "PING" if outcome in (["PING"], ["nothing"]) else outcome[0]


@case("CVE-2019-9518", "a flood of empty DATA is ended", "answer 200", *stream_error("ENHANCE_YOUR_CALM", "PROTOCOL_ERROR"))
def _(address, host):
    client = Client(address, host)
    client.headers(1, method="POST", flags=h2.END_HEADERS)
    try:
        for _ in range(200):
            client.send(frame(h2.DATA, 0, 1) * 100)
        client.send(frame(h2.DATA, h2.END_STREAM, 1))
    except OSError:
        pass
    return client.outcome()


def run(proxy, host):
    address = ("127.0.0.1", proxy.http)
    before = proxy.memory_kib()
    wrong = []
    for section, title, expected, act in CASES:
        try:
            outcome = act(address, host)
        except (AssertionError, EOFError, OSError, struct.error) as error:
            outcome = f"{type(error).__name__}: {error}"
        if outcome not in expected:
            wrong.append(f"{section} {title}: {outcome}, expected {' or '.join(expected)}")
    print(f"http2: {len(CASES) - len(wrong)} of {len(CASES)} cases as RFC 9113 and RFC 7541 ask for; "
          f"memory {before} -> {proxy.memory_kib()} KiB")
    for failure in wrong:
        print(f"       {failure}")
    return not wrong
