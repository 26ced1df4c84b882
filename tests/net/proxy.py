# SPDX-License-Identifier: Apache-2.0
"""
A TCP proxy that knows the shape of zh/1: it tells control from data connections and heads from raw
bytes, and lets a test spoil, cut, stop or slow what passes.
"""

import socket
import struct
import threading
import time

CONTROL, DATA = 1, 2
UP, DOWN = "up", "down"  # from the client, to the client
FRAME_DATA = 9
FIXED = 40
RAW_TYPES = (FRAME_DATA, 10)


class Shape:
    """Walks along one direction of one connection: what is the next byte a part of?"""

    def __init__(self):
        self.left = 160  # HELLO and proof
        self.part = "greeting"
        self.head = b""
        self.file_offset = 0

    def split(self, data):
        """Yields (part, bytes, offset in the file of raw bytes)."""
        while data:
            if self.part == "head":
                take = data[:FIXED - len(self.head)]
                self.head += take
                data = data[len(take):]
                yield "head", take, 0
                if len(self.head) == FIXED:
                    self._payload_follows()
                continue
            take, data = data[:self.left], data[self.left:]
            yield self.part, take, self.file_offset
            self.left -= len(take)
            self.file_offset += len(take)
            if self.left == 0:
                self.part, self.head = "head", b""

    def _payload_follows(self):
        kind, _, _, length, _, offset = struct.unpack("<BBHIQQ", self.head[:24])
        self.file_offset = offset
        self.left = length
        self.part = "raw" if kind in RAW_TYPES else "payload"
        if length == 0:
            self.part, self.head = "head", b""


class Connection:
    """One connection of the client, and its other half to the server."""

    def __init__(self, proxy, client):
        self.proxy, self.client = proxy, client
        self.server = socket.create_connection(("127.0.0.1", proxy.target))
        self.kind = None
        self.passed = {UP: 0, DOWN: 0}
        self.shape = {UP: Shape(), DOWN: Shape()}
        self.cut_off = False
        self.threads = [
            threading.Thread(target=self._pump, args=(UP, client, self.server), daemon=True),
            threading.Thread(target=self._pump, args=(DOWN, self.server, client), daemon=True),
        ]
        for thread in self.threads:
            thread.start()

    def _pump(self, way, source, target):
        try:
            while True:
                data = source.recv(65536)
                if not data:
                    break
                if way == UP and self.kind is None:
                    while len(data) < 9:
                        data += source.recv(65536)
                    self.kind = data[8]
                while self.kind is None:
                    time.sleep(0.001)
                data = self.proxy.on_data(self, way, data)
                target.sendall(data)
                self.passed[way] += len(data)
                if self.cut_off:
                    return
            target.shutdown(socket.SHUT_WR)
        except OSError:
            self.close()

    def cut(self, reset):
        """Ends both halves, by a reset or in order."""
        self.cut_off = True
        for half in (self.client, self.server):
            try:
                if reset:
                    half.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                else:
                    half.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        # a reset is sent by the close, which waits for nobody: both threads may be in recv
        self.close()

    def close(self):
        for half in (self.client, self.server):
            try:
                half.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            half.close()


class Proxy:
    """Forwards to a port; subclasses change what passes in on_data."""

    def __init__(self, target):
        self.target = target
        self.connections = []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
                self.connections.append(Connection(self, client))
            except OSError:
                return

    def on_data(self, connection, way, data):
        return data

    def passed(self, kind, way):
        return sum(c.passed[way] for c in self.connections if c.kind == kind)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for connection in self.connections:
            connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class FlipRaw(Proxy):
    """Spoils the byte at an offset of the file: the first few times it passes, or always."""

    def __init__(self, target, offsets, times):
        super().__init__(target)
        self.left = {offset: times for offset in offsets}
        self.flipped = 0
        self.lock = threading.Lock()

    def on_data(self, connection, way, data):
        if connection.kind != DATA:
            return data
        out = bytearray()
        for part, piece, offset in connection.shape[way].split(data):
            if part == "raw":
                piece = bytearray(piece)
                with self.lock:
                    for at, left in self.left.items():
                        if left > 0 and offset <= at < offset + len(piece):
                            piece[at - offset] ^= 1 << at % 8
                            self.left[at] -= 1
                            self.flipped += 1
            out += piece
        return bytes(out)


class FlipOther(Proxy):
    """Spoils one byte that is not raw: the nth one of a kind of connection and a direction."""

    def __init__(self, target, kind, way, at):
        super().__init__(target)
        self.kind, self.way, self.at = kind, way, at
        self.seen = 0
        self.flipped = None
        self.lock = threading.Lock()

    def on_data(self, connection, way, data):
        if connection.kind != self.kind or way != self.way:
            return data
        out = bytearray()
        for part, piece, _ in connection.shape[way].split(data):
            piece = bytearray(piece)
            if part != "raw":
                with self.lock:
                    if self.seen <= self.at < self.seen + len(piece):
                        piece[self.at - self.seen] ^= 1 << self.at % 8
                        self.flipped = part
                    self.seen += len(piece)
            out += piece
        return bytes(out)


class Cut(Proxy):
    """Ends a connection after so many bytes of a kind and a direction."""

    def __init__(self, target, kind, way, at, reset):
        super().__init__(target)
        self.kind, self.way, self.at, self.reset = kind, way, at, reset
        self.seen = 0
        self.lock = threading.Lock()
        self.done = False

    def on_data(self, connection, way, data):
        if connection.kind != self.kind or way != self.way or self.done:
            return data
        with self.lock:
            self.seen += len(data)
            if self.seen < self.at:
                return data
            self.done = True
        target = connection.server if way == UP else connection.client
        try:
            target.sendall(data[:len(data) - (self.seen - self.at)])
            if not self.reset:
                time.sleep(0.02)  # what was sent arrives before the end does
        except OSError:
            pass
        connection.cut(self.reset)
        raise ConnectionAbortedError


class BlackHole(Proxy):
    """Once open nothing passes on one kind of connection; nothing is closed either."""

    def __init__(self, target, kind):
        super().__init__(target)
        self.kind = kind
        self.open = threading.Event()
        self.closing = threading.Event()

    def on_data(self, connection, way, data):
        if connection.kind == self.kind and self.open.is_set():
            self.closing.wait()
            raise ConnectionAbortedError
        return data

    def close(self):
        self.closing.set()
        super().close()


class Trickle(Proxy):
    """Passes a little at a time."""

    def __init__(self, target, piece, pause, kinds=(CONTROL, DATA)):
        super().__init__(target)
        self.piece, self.pause, self.kinds = piece, pause, kinds

    def on_data(self, connection, way, data):
        if connection.kind not in self.kinds:
            return data
        target = connection.server if way == UP else connection.client
        for at in range(0, len(data) - self.piece, self.piece):
            target.sendall(data[at:at + self.piece])
            time.sleep(self.pause)
        return data[(len(data) - 1) // self.piece * self.piece:]
