"""A Django application behind nginx, both managed.

    pip install 'servermgr[django,web]'
    python examples/django_nginx/run.py

Ctrl-C ends it, and leaves neither a process nor a file. Nor does a process of it outlive it when it is killed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import servermgr
from servermgr import django_app, nginx
from servermgr.base import WorkerError

HERE = Path(__file__).resolve().parent


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the example until Ctrl-C.")
    parser.add_argument("--port", type=int, default=8080, help="where nginx listens (default: %(default)s)")
    parser.add_argument("--server", help="gunicorn, uvicorn or runserver (default: the best that is installed)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    try:
        with contextlib.ExitStack() as stack:
            return run(stack, options.port, options.server)
    except WorkerError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 0


def run(stack: contextlib.ExitStack, port: int, server: str | None) -> int:
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="servermgr-example-"))
    os.chmod(folder, 0o755)  # noqa: S103  # nginx's workers run as another user when root starts them

    # A port that is free: only nginx needs to know it. A start returns when the application says that it is well.
    app = django_app.Manager(
        "127.0.0.1", 0, "hello.settings", cwd=HERE, process_name="hello", server=server, health_path="/health"
    )
    stack.enter_context(app)

    web = nginx.Manager("127.0.0.1", port, os.path.join(folder, "nginx"))
    web.add_http_mapping("/", app.url)
    web.add_filesystem_mapping("/static/", HERE / "static")
    stack.enter_context(web)

    for manager in (web, app):
        print(servermgr.format_tree(manager.processes()))
    print(f"open {web.url} (Ctrl-C ends it)", flush=True)
    while all(manager.process.poll() is None for manager in (app, web)):
        time.sleep(0.2)
    print("one of them has ended by itself, the other one follows", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
