"""What runs in processes of its own during a measurement.

`forest`, `listener`, `connections` and `slow_exit` need the standard library alone and are run by path in isolated
mode. `web`, `django_site` and `pyro_adder` are what servers written in Python serve. The others use servermgr or psutil
and are run with `-m`.
"""
