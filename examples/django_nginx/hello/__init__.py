"""The Django project of this example: one page, and one address to ask whether it is well."""
