"""HTTP/2 frame by frame (RFC 9113), for clients that are allowed to do wrong."""

import socket
import struct
import time

import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITIZED = 1, 1, 4, 8, 32
ERRORS = (
    "NO_ERROR PROTOCOL_ERROR INTERNAL_ERROR FLOW_CONTROL_ERROR SETTINGS_TIMEOUT STREAM_CLOSED FRAME_SIZE_ERROR "
    "REFUSED_STREAM CANCEL COMPRESSION_ERROR CONNECT_ERROR ENHANCE_YOUR_CALM INADEQUATE_SECURITY HTTP_1_1_REQUIRED"
).split()
DEADLINE = 10


def frame(kind, flags=0, stream=0, payload=b"", length=None):
    size = len(payload) if length is None else length
    return struct.pack("!I", size)[1:] + struct.pack("!BBI", kind, flags, stream) + payload


def settings(*pairs):
    return frame(SETTINGS, payload=b"".join(struct.pack("!HI", *pair) for pair in pairs))


class Client:
    """A connection whose preface and settings have been exchanged."""

    def __init__(self, address, host, opening=None):
        self.host = host
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.buffer = b""
        self.socket = socket.create_connection(address, timeout=DEADLINE)
        if opening is None:
            self.send(PREFACE + settings())
            self.settings = self.await_settings()
            self.send(frame(SETTINGS, ACK))
        else:
            self.send(opening)

    def await_settings(self):
        kind, _, _, payload = self.read()
        assert kind == SETTINGS, f"the first frame is of type {kind}"
        return dict(struct.unpack("!HI", payload[at : at + 6]) for at in range(0, len(payload), 6))

    def send(self, data):
        self.socket.sendall(data)

    def read(self):
        """The next frame: type, flags, stream, payload. EOFError at the end."""
        while len(self.buffer) < 9 or len(self.buffer) < 9 + int.from_bytes(self.buffer[:3], "big"):
            data = self.socket.recv(65536)
            if not data:
                raise EOFError
            self.buffer += data
        size = int.from_bytes(self.buffer[:3], "big")
        kind, flags, stream = struct.unpack("!BBI", self.buffer[3:9])
        payload, self.buffer = self.buffer[9 : 9 + size], self.buffer[9 + size :]
        return kind, flags, stream & 0x7FFFFFFF, payload

    def request(self, *fields, method="GET", path="/", **pseudo):
        """A header block of a request; pseudo fields that are None are left out."""
        head = {"method": method, "scheme": "http", "authority": self.host, "path": path, **pseudo}
        block = [(f":{name}", value) for name, value in head.items() if value is not None]
        return self.encoder.encode(block + list(fields), huffman=False)

    def headers(self, stream=1, *fields, flags=END_STREAM | END_HEADERS, **pseudo):
        self.send(frame(HEADERS, flags, stream, self.request(*fields, **pseudo)))

    def outcome(self, stream=1):
        """What the server says first that decides: `answer 200`, `RST_STREAM code`, `GOAWAY code`,
        `PING`, or `closed`."""
        end = time.monotonic() + DEADLINE
        status = None
        while time.monotonic() < end:
            try:
                kind, flags, of, payload = self.read()
            except (EOFError, ConnectionError):
                return "closed"
            except TimeoutError:
                return "nothing"
            if kind == GOAWAY:
                return f"GOAWAY {ERRORS[int.from_bytes(payload[4:8], 'big')]}"
            if kind == RST_STREAM and of == stream:
                return f"RST_STREAM {ERRORS[int.from_bytes(payload[:4], 'big')]}"
            if kind == HEADERS:
                fields = dict(self.decoder.decode(payload))
                status = fields.get(":status", status) if of == stream else status
            if kind in (HEADERS, DATA) and of == stream and flags & END_STREAM:
                return f"answer {status}"
            if kind == PING and flags & ACK:
                return "PING"
        return "nothing"

    def close(self):
        self.socket.close()


def websocket(address, host, pieces):
    """Bytes that come back on a WebSocket over one stream (RFC 8441), up to its end."""
    client = Client(address, host)
    try:
        assert client.settings.get(8) == 1, "the server does not offer extended CONNECT"
        client.send(frame(WINDOW_UPDATE, 0, 0, struct.pack("!I", 1 << 24)))
        fields = [("sec-websocket-version", "13")]
        client.headers(1, *fields, flags=END_HEADERS, method="CONNECT", protocol="websocket")
        return tunnel(client, pieces)
    finally:
        client.close()


def tunnel(client, pieces):
    # RFC 9113 section 6.9.2: a stream's window is the setting, the connection's is not.
    window, total, received, answered = client.settings.get(4, 65535), 65535, b"", False
    waiting = list(pieces)
    ended = False
    while True:
        while answered and waiting and min(window, total) > 0:
            if isinstance(waiting[0], int):
                if len(received) < waiting[0]:
                    break
                waiting.pop(0)
                continue
            size = min(len(waiting[0]), window, total, 16384)
            client.send(frame(DATA, 0, 1, waiting[0][:size]))
            window, total = window - size, total - size
            waiting[0] = waiting[0][size:]
            if not waiting[0]:
                waiting.pop(0)
        if answered and not pieces and not ended:
            client.send(frame(DATA, END_STREAM, 1))
            ended = True
        kind, flags, stream, payload = client.read()
        if kind == HEADERS:
            status = dict(client.decoder.decode(payload))[":status"]
            if status != "200":
                return f"status {status}".encode()
            answered = True
        elif kind == DATA:
            received += payload
            if payload:
                grant = struct.pack("!I", len(payload))
                client.send(frame(WINDOW_UPDATE, 0, 0, grant) + frame(WINDOW_UPDATE, 0, 1, grant))
        elif kind == WINDOW_UPDATE:
            grant = int.from_bytes(payload, "big")
            window, total = (window + grant, total) if stream else (window, total + grant)
        elif kind == SETTINGS and not flags & ACK:
            client.send(frame(SETTINGS, ACK))
        elif kind in (RST_STREAM, GOAWAY):
            return received
        if kind in (HEADERS, DATA) and flags & END_STREAM:
            return received
