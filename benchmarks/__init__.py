"""Measurements of servermgr, each beside a reference that is taken in the same run.

`python -m benchmarks --help`, from the root of the checkout, says how to run them. One module for each family of
measurements; `harness` times and compares, `report` writes, `programs` are what runs in processes of its own.
"""
