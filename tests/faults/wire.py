"""A TCP proxy before a server's unix socket that reads Postgres' protocol and acts at a chosen message.

Production code needs no hook: the statements a replay sends are the boundaries (Postgres docs 54.7, Message Formats).
"""

import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

When = Literal["before", "sent", "after"]


@dataclass(kw_only=True)
class Trap:
    """Fires once, at the `nth` message that holds `needle`, on a connection where `primed_by` was seen before it.

    'before': the message is held back; 'sent': it was passed on this moment; 'after': the server's whole answer is
    held back. `act` runs meanwhile and says whether the traffic goes on (True) or the connection is cut, what is held
    then being lost.
    """

    needle: bytes
    when: When
    act: Callable[[], bool]
    primed_by: bytes | None = None
    nth: int = 1
    fired: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)
    _claim: threading.Lock = field(default_factory=threading.Lock)

    def takes(self, text: bytes, seen: bytes) -> bool:
        """True once, for the message it was set for."""
        if self.needle not in text or (self.primed_by is not None and self.primed_by not in seen):
            return False
        with self._claim:
            self.nth -= 1
            if self.nth == 0:
                self.fired.set()
            return self.nth == 0

    def spring(self) -> bool:
        """Acts; True when the traffic goes on."""
        try:
            return self.act()
        finally:
            self.done.set()


class Wire:
    """Listens on 127.0.0.1:`port`; every connection goes to the unix socket until a trap cuts it."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self._listener.getsockname()[1])
        self.trap: Trap | None = None
        threading.Thread(target=self._accept, daemon=True, name=f"wire {self.port}").start()

    def close(self) -> None:
        """No new connections; those under way end with their ends."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(str(self._target))
            except OSError:
                client.close()
                server.close()
                continue
            pair = _Pair(self, client, server)
            threading.Thread(target=pair.to_server, daemon=True).start()
            threading.Thread(target=pair.to_client, daemon=True).start()


class _Pair:
    """One client connection and its server connection."""

    def __init__(self, wire: Wire, client: socket.socket, server: socket.socket) -> None:
        self._wire, self._client, self._server = wire, client, server
        self._seen, self._seen_for = b"", wire.trap
        self._prepared: dict[bytes, bytes] = {}
        self._answer: Trap | None = None
        self._ends = 0
        self._lock = threading.Lock()

    def to_server(self) -> None:
        """Message by message; the first has no type."""
        try:
            with suppress(OSError, EOFError):
                if self._pass_on(self._read(b"")):
                    while self._pass_on(self._read(self._exactly(self._client, 1))):
                        pass
        finally:
            self._cut()

    def _read(self, kind: bytes) -> bytes:
        length = self._exactly(self._client, 4)
        return kind + length + self._exactly(self._client, struct.unpack("!I", length)[0] - 4)

    def _pass_on(self, message: bytes) -> bool:
        """False when the connection is to be cut."""
        trap, text = self._wire.trap, self._text(message)
        if self._seen_for is not trap:
            self._seen, self._seen_for = b"", trap
        if trap is None or not text or not trap.takes(text, self._seen):
            self._seen += text
            self._server.sendall(message)
            return True
        if trap.when == "before":
            goes_on = trap.spring()
            if goes_on:
                self._server.sendall(message)
            return goes_on
        if trap.when == "after":
            self._answer = trap
        self._server.sendall(message)
        return trap.spring() if trap.when == "sent" else True

    def _text(self, message: bytes) -> bytes:
        """What the message says: start-up packet, Query, Parse, or Bind with the statement it names."""
        kind = message[:1]
        if kind == b"P":
            name, text = message[5:].split(b"\0")[:2]
            self._prepared[name] = text
        if kind == b"B":
            name = message[5:].split(b"\0")[1]
            return message + (self._prepared.get(name, b"") if name else b"")
        return message if kind in b"\0QP" else b""

    def to_client(self) -> None:
        """Bytes as they come; the answer a trap waits for is read to its end (ReadyForQuery) first."""
        try:
            with suppress(OSError, EOFError):
                while data := self._server.recv(1 << 16):
                    if self._answer is None:
                        self._client.sendall(data)
                    elif not self._hold(data):
                        break
        finally:
            self._cut()

    def _hold(self, data: bytes) -> bool:
        """Collects the whole answer and springs the trap. False when the answer is to be lost."""
        trap = self._answer
        assert trap is not None
        while not _complete(data):
            more = self._server.recv(1 << 16)
            if not more:
                break
            data += more
        if not trap.spring():
            return False
        self._answer = None
        self._client.sendall(data)
        return True

    def _exactly(self, end: socket.socket, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = end.recv(count - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def _cut(self) -> None:
        """Both ends; the one that ends last closes the descriptors."""
        for end in (self._client, self._server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._ends += 1
            if self._ends == 2:
                self._client.close()
                self._server.close()


def _complete(data: bytes) -> bool:
    """True when whole messages end with ReadyForQuery."""
    place, kind = 0, b""
    while len(data) - place >= 5:
        kind = data[place : place + 1]
        place += 1 + int(struct.unpack("!I", data[place + 1 : place + 5])[0])
    return place == len(data) and kind == b"Z"
