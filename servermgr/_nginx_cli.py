"""`python -m servermgr.nginx`: one nginx on the command line, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from typing import TYPE_CHECKING

from servermgr import _server_cli as cli
from servermgr.nginx import Manager

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

EXAMPLE = r"""
example:
  python -m servermgr.nginx --port 8080 --fsmap /docs=./build/html --http /=http://127.0.0.1:8000 \
      --redirect /old '^/old/(\d+)$' '/items/$1'

  serves the files of ./build/html below http://127.0.0.1:8080/docs/, forwards everything else to port 8000,
  and answers /old/17 with a redirect to /items/17. The longest matching PREFIX wins. --config shows what
  nginx is told.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run nginx until Ctrl-C or SIGTERM; see `_server_cli.run`."""
    return cli.run(_parser(), argv, _serve)


def _serve(options: argparse.Namespace) -> int:
    with _data_directory(options) as base_dir:
        manager = _manager(options, base_dir)
        if options.config:
            sys.stdout.buffer.write(manager.configuration())
            return 0
        return cli.serve(manager, lambda: f"nginx serves {manager.url}")


@contextlib.contextmanager
def _data_directory(options: argparse.Namespace) -> Iterator[str]:
    if options.datadir is not None:
        yield options.datadir
    elif options.config:
        yield os.path.join(tempfile.gettempdir(), "servermgr-nginx")  # only named, never made
    else:
        # As the manager would make it: closed, it would leave root's workers with root's rights. What is private in
        # it is closed by itself.
        with cli.temporary("nginx", 0o755) as directory:
            yield directory


def _manager(options: argparse.Namespace, base_dir: str) -> Manager:
    manager = Manager(options.host, options.port, base_dir, options.root, binary=options.binary, user=options.user)
    for prefix, directory in options.fsmap:
        manager.add_filesystem_mapping(prefix, directory)
    for prefix, pattern, rewrite in options.redirect:
        manager.add_redirect_mapping(prefix, pattern, rewrite)
    for prefix, destination in options.fcgi:
        manager.add_fastcgi_mapping(prefix, destination)
    for prefix, destination in options.http:
        manager.add_http_mapping(prefix, destination)
    return manager


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser(
        "nginx",
        "Run an nginx of your own until Ctrl-C, and leave nothing of it behind.",
        EXAMPLE,
        server="nginx",
    )
    cli.add_address(parser, 8080)
    add = parser.add_argument
    add("--datadir", metavar="DIR", help="logs and configuration go here (default: a temporary directory)")
    add("--root", metavar="DIR", default="", help="files for what no mapping matches, without listings")
    for option, target, text in (
        ("--fsmap", "DIR", "serve the files of DIR, with listings; repeatable"),
        ("--fcgi", "DEST", "forward to the FastCGI server at host:port or unix:/path; repeatable"),
        ("--http", "DEST", "forward to the web server at http://host:port[/path] or unix:/path; repeatable"),
    ):
        add(option, metavar=f"PREFIX={target}", type=cli.pair("PREFIX=TARGET"), action="append", default=[], help=text)
    add(
        "--redirect",
        nargs=3,
        metavar=("PREFIX", "PATTERN", "REWRITE"),
        action="append",
        default=[],
        help="redirect what begins with PREFIX and matches the regular expression PATTERN; $1 is a group; repeatable",
    )
    add("--user", help="user for nginx's workers, when started by root (default: an unprivileged one)")
    add("--binary", metavar="NGINX", help="the nginx program (default: looked for)")
    add("--config", action="store_true", help="print the configuration, and start nothing")
    return parser
