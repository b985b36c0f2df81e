"""Which address is answered by what."""

from django.urls import path

from hello import views

urlpatterns = [path("", views.page), path("health", views.health), path("add/<int:left>/<int:right>", views.add)]
