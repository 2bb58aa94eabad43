"""Closes the page's connections that keep others waiting: idle, slow or broken ones."""

import asyncio
from collections.abc import Callable
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS = 64
MAX_HEAD_BYTES = 16_384
REQUEST_S = 10.0  # from the connection, or from the last answer, to the end of a request's headers
ANSWER_S = 60.0  # in which a client must read some of what is written to it


def server(app: Any) -> uvicorn.Server:
    """Makes the server of an ASGI application.

    It has no limit of requests: each is answered at once, or is one of the few uploads and clips of
    the `TaggingQueue`. Of connections without a request, the oldest gives way to a new one.
    """
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level='error',  # a line for each broken request could fill a disk
        access_log=False,
        loop='asyncio',
        http=Connection,
        ws='none',
        lifespan='off',
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        timeout_graceful_shutdown=1,
    )
    return uvicorn.Server(config)


class Connection(H11Protocol):
    """A connection that is closed where its client keeps the page waiting.

    uvicorn's own limit, `timeout_keep_alive`, begins after an answer and ends with the first byte
    of the next request.
    """

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._await_request()
        connections = [one for one in self.connections if not one.transport.is_closing()]
        idle = [one for one in connections if one.is_idle and one is not self]
        if len(connections) > MAX_CONNECTIONS and idle:
            min(idle, key=lambda one: one.idle_since_s).transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        for name in [*self._timers]:
            self._unset(name)
        super().connection_lost(exc)

    @property
    def is_idle(self) -> bool:
        """Whether no request of the client waits for its answer."""
        return 'request' in self._timers

    def handle_events(self) -> None:
        super().handle_events()
        if self.cycle and not self.cycle.response_complete:
            self._unset('request')

    def on_response_complete(self) -> None:
        if self.transport.is_closing():
            self._close()
        else:
            self._await_request()
        super().on_response_complete()  # begins the next request if its bytes have come

    def send_400_response(self, msg: str) -> None:
        if self.cycle:  # its headers were right, and its application is about to answer
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:  # the request is answered already, and its rest is broken
            self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._set('reading', ANSWER_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._unset('reading')

    def _await_request(self) -> None:
        self.idle_since_s = self.loop.time()
        self._set('request', REQUEST_S, self._close)

    def _close(self) -> None:
        """Closes the connection when the client has read its answer, or its time is over."""
        self.transport.close()
        self._set('closing', ANSWER_S, self.transport.abort)

    def _set(self, name: str, seconds: float, function: Callable[[], None]) -> None:
        self._unset(name)
        self._timers[name] = self.loop.call_later(seconds, function)

    def _unset(self, name: str) -> None:
        if timer := self._timers.pop(name, None):
            timer.cancel()
