"""Real servers with the smallest configuration that answers, each in the background and in the foreground.

Run by path it is an owner: it starts one of them, prints the pids of its tree, and waits to be killed::

    python real_servers.py NAME FORM FOLDER PORT
"""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from servermgr.command import CommandManager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DAEMON, FOREGROUND = FORMS = ("daemon", "foreground")
ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
#: Where packages put servers, and where an ordinary user's PATH often does not look.
PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"))


class Server:
    """One server in one form.

    Args:
        folder: Where it keeps everything. It need not be empty.
        port: Where it listens, on 127.0.0.1.
        form: `DAEMON` or `FOREGROUND`.
        flaw: Whether its configuration holds `FLAW`, with which it cannot start.
    """

    name: str
    program: str
    #: What its configuration cannot hold, and what it says then.
    FLAW: str
    complaint: str

    def __init__(self, folder: Path, port: int, form: str, *, flaw: bool = False) -> None:
        self.folder = folder
        self.port = port
        self.form = form
        self.flaw = flaw
        self.pidfile = folder / f"{self.program}.pid"

    @property
    def is_daemon(self) -> bool:
        return self.form == DAEMON

    def manager(self, **options: Any) -> CommandManager:
        self.configure()
        return CommandManager(
            [shutil.which(self.program, path=PATH) or self.program, *self.arguments()],
            ready=f"tcp://127.0.0.1:{self.port}",
            pidfile=self.pidfile if self.is_daemon else None,
            cwd=self.folder,
            **options,
        )

    def configure(self) -> None:
        """Write what it is configured by."""

    def arguments(self) -> list[str]:
        raise NotImplementedError

    def check(self) -> None:
        """Ask it for what it is there for. Raises unless it does that."""
        raise NotImplementedError

    def write(self, text: str) -> None:
        (self.folder / "server.conf").write_text(text + (f"{self.FLAW}\n" if self.flaw else ""))

    def http(self) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", "/", headers={"Connection": "close"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def dialogue(self, *steps: tuple[str, str]) -> None:
        """Say the first of each, and expect the second, whose `…` stands for the rest of a line."""
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection,
            connection.makefile("rw", newline="\r\n") as stream,
        ):
            for said, expected in steps:
                stream.write(said + "\n")
                stream.flush()
                for line in expected.split("\n"):
                    heard = stream.readline().rstrip("\r\n")
                    assert heard == line or (line.endswith("…") and heard.startswith(line[:-1])), (said, heard)


class Nginx(Server):
    name = program = "nginx"
    FLAW = "listen_to nobody;"
    complaint = 'unknown directive "listen_to"'

    def arguments(self) -> list[str]:
        return ["-p", f"{self.folder}", "-e", "error.log", "-c", "server.conf"]

    def configure(self) -> None:
        (self.folder / "tmp").mkdir(exist_ok=True)
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        self.write(
            ("user root;\n" if ROOT else "")  # its worker must enter the directory
            + f"daemon {'on' if self.is_daemon else 'off'};\n"
            + f"pid {self.pidfile};\nworker_processes 2;\nevents {{}}\n"
            + f"http {{\n{''.join(f'{kind}_temp_path tmp/{kind};' for kind in kinds)}\naccess_log off;\n"
            + f"server {{ listen 127.0.0.1:{self.port}; location / {{ return 200 'nginx is here'; }} }}\n}}\n"
        )

    def check(self) -> None:
        assert self.http() == (200, "nginx is here")


class Haproxy(Server):
    name = program = "haproxy"
    FLAW = "listen_to nobody"
    complaint = "unknown keyword 'listen_to'"

    def arguments(self) -> list[str]:
        form = ["-D", "-p", f"{self.pidfile}"] if self.is_daemon else ["-db"]
        return [*form, "-f", "server.conf"]

    def configure(self) -> None:
        self.write(
            "global\n    maxconn 100\n"
            "defaults\n    mode http\n    timeout client 5s\n    timeout connect 5s\n    timeout server 5s\n"
            f"frontend here\n    bind 127.0.0.1:{self.port}\n"
            '    http-request return status 200 content-type text/plain string "haproxy is here"\n'
        )

    def check(self) -> None:
        assert self.http() == (200, "haproxy is here")


class Redis(Server):
    name, program = "redis", "redis-server"
    FLAW = "listen-to nobody"
    complaint = "Bad directive or wrong number of arguments"

    def arguments(self) -> list[str]:
        form = ["--daemonize", "yes", "--pidfile", f"{self.pidfile}"] if self.is_daemon else []
        return ["server.conf", *form]

    def configure(self) -> None:
        self.write(f'bind 127.0.0.1\nport {self.port}\ndir "{self.folder}"\nsave ""\n')

    def check(self) -> None:
        self.dialogue(("PING", "+PONG"), ("SET key value", "+OK"), ("GET key", "$5\nvalue"), ("GET none", "$-1"))


class Memcached(Server):
    name = program = "memcached"
    FLAW = "0"
    complaint = "Number of threads must be greater than 0"

    def arguments(self) -> list[str]:
        form = ["-d", "-P", f"{self.pidfile}"] if self.is_daemon else []
        user = ["-u", "nobody"] if ROOT else []  # it refuses to run as root, and writes its pidfile as this user
        return [*form, *user, "-l", "127.0.0.1", "-p", f"{self.port}", "-U", "0", "-t", self.FLAW if self.flaw else "2"]

    def check(self) -> None:
        self.dialogue(
            ("version", "VERSION …"),
            ("set key 0 0 5\r\nvalue", "STORED"),
            ("get key", "VALUE key 0 5\nvalue\nEND"),
            ("get none", "END"),
        )


SERVERS: dict[str, type[Server]] = {server.name: server for server in (Nginx, Redis, Memcached, Haproxy)}


def main() -> None:
    name, form, folder, port = sys.argv[1:]
    server = SERVERS[name](Path(folder), int(port), form)
    manager = server.manager()
    manager.start()
    server.check()
    print(*(info.pid for info in manager.processes()), flush=True)  # noqa: T201  # for the test that kills us
    time.sleep(60)


if __name__ == "__main__":
    main()
