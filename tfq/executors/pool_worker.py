"""A process of the pool: reads calls from one pipe, writes results to another.

It is started without the user's own script, so a script needs no `if __name__ == "__main__"`.
"""

from __future__ import annotations

import os
import queue
import shutil
import signal
import threading

from tfq.executors import messages


def main(calls: int, results: int, folder: str) -> None:
    """Serves until the pipe of calls is closed, which is also how it learns its parent's end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle.
    os.dup2(2, 1)  # Standard output is the command's own.
    frames: queue.SimpleQueue[list[bytearray]] = queue.SimpleQueue()

    def read() -> None:
        try:
            while True:
                frames.put(messages.receive(calls))
        except (EOFError, OSError):
            # In the middle of a shard, too: nobody waits for it. A parent that was killed has
            # left its folder.
            shutil.rmtree(folder, ignore_errors=True)
            os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    while True:
        received = frames.get()
        # What is said while one shard runs is kept for the message if it ends this process.
        os.ftruncate(2, 0)
        try:
            function, arguments = messages.load(received)
            del received
            answer = (True, function(*arguments))
            del arguments
        except Exception as e:
            answer = (False, f"{type(e).__name__}: {e}")
        try:
            messages.send(results, answer)
        except OSError:
            os._exit(0)
        except Exception as e:
            messages.send(results, (False, f"{type(e).__name__}: {e}"))
        del answer
