"""The smallest Django project: settings, addresses and a page in one module."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import path

SECRET_KEY = "none: it signs nothing"  # noqa: S105
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = __name__


def page(_: HttpRequest) -> HttpResponse:
    return HttpResponse("here")


urlpatterns = [path("", page)]
