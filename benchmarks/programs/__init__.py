"""What runs in processes of its own during a measurement.

`forest`, `listener`, `connections` and `slow_exit` need the standard library alone and are run by path in isolated
mode; the others use servermgr or psutil and are run with `-m`.
"""
