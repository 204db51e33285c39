"""A way to a server that can be held up in the middle."""

import contextlib
import socket
import threading

PIECE = 256 * 1024


class Gate:
    """Passes connections on to a port of this machine. Once so many bytes have gone one way, nothing more goes there until it is
    opened."""

    def __init__(self, port):
        self.port = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.lock = threading.Lock()
        self.way, self.left = None, 0
        self.reached, self.opened = threading.Event(), threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def hold(self, way, at):
        """`way` is "up" or "down", from the client's side."""
        self.reached.clear()
        self.opened.clear()
        with self.lock:
            self.way, self.left = way, at

    def open(self):
        with self.lock:
            self.way = None
        self.opened.set()

    def _accept(self):
        while True:
            client, _ = self.listener.accept()
            try:
                server = socket.create_connection(("127.0.0.1", self.port))
            except OSError:
                client.close()
                continue
            for way, source, target in (("up", client, server), ("down", server, client)):
                threading.Thread(target=self._carry, args=(way, source, target), daemon=True).start()

    def _carry(self, way, source, target):
        with contextlib.suppress(OSError):
            while piece := source.recv(PIECE):
                with self.lock:
                    is_held = self.way == way and self.left < len(piece)
                    self.left -= len(piece)
                if is_held:
                    self.reached.set()
                    self.opened.wait()
                target.sendall(piece)
        # The other way ends too.
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
