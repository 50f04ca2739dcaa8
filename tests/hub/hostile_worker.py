"""Tries the hostile inputs of one door, in a process that reports every write, program and connection it sees.

`python hostile_worker.py <door> <folder>` writes `<folder>/outcomes.jsonl`: one line an attempt.
"""

import importlib
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path

# Of work; and by the clock, for what waits without working, on a machine that others use, too.
SECONDS, WAITS = 15, 100
MEMORY = 12 << 30  # of addresses, not of pages: torch alone maps several gigabytes
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod")
PROGRAMS = ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.spawn", "pty.spawn")


class Watch:
    """Notes what must not happen, by the interpreter's own audit events.

    Args:
        roots (`tuple[str, ...]`): folders in which files may be written.
    """

    def __init__(self, roots: tuple[str, ...]):
        self.roots = tuple(os.path.realpath(root) for root in roots)
        self.noted: list[str] = []

    def __call__(self, event: str, arguments: tuple) -> None:
        if event == "open":
            path, mode, flags = arguments
            wanted = isinstance(mode, str) and set(mode) & set("wax+") or isinstance(flags, int) and flags & WRITING
            if wanted and isinstance(path, str | bytes | os.PathLike):
                self._check(event, path)
        elif event in CHANGES:
            # Of a link only the link itself is written, of what is moved both places.
            changed = slice(1, 2) if event in ("os.symlink", "os.link") else slice(2 if event == "os.rename" else 1)
            for path in arguments[changed]:
                if isinstance(path, str | bytes | os.PathLike):
                    self._check(event, path)
        elif event in PROGRAMS:
            self.noted.append(f"{event} {str(arguments)[:200]}")
        elif event == "socket.connect":
            self.noted.append(f"{event} {str(arguments[1:])[:200]}")

    def _check(self, event: str, path) -> None:
        place = os.path.realpath(os.fsdecode(path))
        if place != "/dev/null" and not place.startswith(tuple(f"{root}/" for root in self.roots)):
            self.noted.append(f"{event} {place}")


class Hangs(BaseException):
    """The time of an attempt is over. Not an Exception, so that nothing takes it for a damaged file."""


def _ring(number, frame):
    raise Hangs


def main(door: str, folder: Path) -> None:
    doors = importlib.import_module(f"hostile_{door}")
    attempts = doors.attempts(folder)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGALRM, _ring)
    signal.signal(signal.SIGPROF, _ring)
    watch = Watch((str(folder), "/dev/shm"))
    sys.addaudithook(watch)
    with open(folder / "outcomes.jsonl", "w", encoding="utf-8") as out:
        for number, attempt in enumerate(attempts):
            place = folder / "attempts" / f"{number:03}" / "input"
            place.mkdir(parents=True)
            os.chdir(place)
            started = time.monotonic()
            signal.alarm(WAITS)
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            try:
                attempt.run(place)
                outcome, said = "accepted", ""
            except Hangs:
                outcome, said = "hangs", ""
            except MemoryError:
                outcome, said = "out of memory", ""
            except (Exception, SystemExit) as error:
                outcome, said = "refused", f"{type(error).__name__}: {str(error)[:300]}"
            finally:
                signal.alarm(0)
                signal.setitimer(signal.ITIMER_PROF, 0)
            if Path(os.environ["HOSTILE_CANARY"]).exists():
                outcome = "executed"
                os.unlink(os.environ["HOSTILE_CANARY"])
            row = {
                "name": attempt.name,
                "expect": attempt.expect,
                "outcome": outcome,
                "said": said,
                "seconds": round(time.monotonic() - started, 2),
                "noted": watch.noted[:5],
            }
            watch.noted.clear()
            out.write(json.dumps(row) + "\n")
            out.flush()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main(sys.argv[1], Path(sys.argv[2]))
