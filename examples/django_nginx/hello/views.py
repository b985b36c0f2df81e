"""The answers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from django.http import HttpResponse
from django.template import Context, Template

if TYPE_CHECKING:
    from django.http import HttpRequest

PAGE = Template("""<!doctype html>
<title>Hello</title>
<link rel="stylesheet" href="/static/style.css">
<h1>Hello, {{ visitor }}</h1>
<p>This page was made by process {{ pid }}, a worker of the web server that runs Django. The style sheet came from
nginx itself. <a href="/add/2/3">2 + 3 = ?</a></p>
""")


def page(request: HttpRequest) -> HttpResponse:
    """The front page."""
    visitor = request.headers.get("X-Forwarded-For", "you")
    return HttpResponse(PAGE.render(Context({"visitor": visitor, "pid": os.getpid()})))


def add(request: HttpRequest, left: int, right: int) -> HttpResponse:  # noqa: ARG001  # as Django calls it
    """The sum of two numbers."""
    return HttpResponse(f"{left + right}\n", content_type="text/plain")


def health(request: HttpRequest) -> HttpResponse:  # noqa: ARG001  # as Django calls it
    """What servermgr asks; a real application would look at its database here."""
    return HttpResponse("well\n", content_type="text/plain")
