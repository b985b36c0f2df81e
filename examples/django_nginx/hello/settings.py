"""The least that a Django project needs."""

ALLOWED_HOSTS = ["127.0.0.1", "localhost"]  # what visitors write before the port
INSTALLED_APPS: list[str] = []
ROOT_URLCONF = "hello.urls"
SECRET_KEY = "of an example, which keeps no secrets"  # noqa: S105  # that is the value
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates"}]
