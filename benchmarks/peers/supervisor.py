"""supervisor: its daemon holds the server, its command line ends it."""

from __future__ import annotations

import getpass
import shlex
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.peers import Order, Talk, program

#: Seconds for its own start.
START = 20.0

CONFIGURATION = """\
[unix_http_server]
file={folder}/s
[supervisord]
nodaemon=true
logfile={folder}/supervisord.log
pidfile={folder}/supervisord.pid
childlogdir={folder}
user={user}
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://{folder}/s
[program:server]
command={command}
directory={folder}
autorestart=false
startsecs=0
stopwaitsecs={grace:.0f}
stopasgroup=true
killasgroup=true
"""


def hold(order: Order, talk: Talk) -> None:
    """Start its daemon in the foreground with the server as its one program."""
    argv = [program("pidproxy") or "pidproxy", order.pidfile, *order.argv] if order.pidfile else order.argv
    command = shlex.join(argv).replace("%", "%%")
    configuration = Path(order.folder, "supervisord.conf")
    text = CONFIGURATION.format(folder=order.folder, command=command, grace=order.grace, user=_user())
    configuration.write_text(text)
    daemon = order.popen([sys.executable, "-W", "ignore", "-m", "supervisor.supervisord", "-c", str(configuration)])
    give_up = time.monotonic() + START
    while not Path(order.folder, "s").exists():
        if daemon.poll() is not None or time.monotonic() > give_up:
            raise RuntimeError("supervisord does not come up")
        time.sleep(0.02)
    talk(lambda: _stop(configuration), daemon.pid)


def _user() -> str:
    return getpass.getuser()


def _stop(configuration: Path) -> None:
    control = [sys.executable, "-W", "ignore", "-m", "supervisor.supervisorctl", "-c", str(configuration)]
    done = subprocess.run([*control, "stop", "server"], capture_output=True, text=True, check=False)
    if done.returncode and "not running" not in done.stdout:
        raise RuntimeError((done.stdout + done.stderr).strip())
