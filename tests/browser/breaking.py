"""A way to a server that breaks once, in the middle, for everybody who is on it."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress


class BreakingWay:
    """Passes bytes on to a port of this machine, and cuts all connections after so many of them."""

    def __init__(self, port: int, cut_after: int) -> None:
        self.port, self.cut_after = port, cut_after
        self.sent = 0
        self.was_cut = False
        self.writers: set[asyncio.StreamWriter] = set()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        serving = asyncio.start_server(self.passing, "127.0.0.1", 0)
        server = asyncio.run_coroutine_threadsafe(serving, self.loop).result()
        self.address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def passing(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, out = await asyncio.open_connection("127.0.0.1", self.port)
        ends = {writer, out}
        self.writers |= ends
        with suppress(OSError):
            await asyncio.gather(self.pump(reader, out, counts=True), self.pump(back, writer))
        self.writers -= ends
        for end in ends:
            end.close()

    async def pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counts: bool = False
    ) -> None:
        while content := await reader.read(1 << 18):
            self.sent += len(content) * counts
            if self.sent > self.cut_after and not self.was_cut:
                self.was_cut = True
                for end in self.writers:
                    end.transport.abort()  # Not a polite goodbye: what is under way is lost.
                return
            writer.write(content)
            await writer.drain()
        with suppress(OSError):
            writer.write_eof()

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self.let_go(), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()

    async def let_go(self) -> None:
        pending = asyncio.all_tasks() - {asyncio.current_task()}
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
