"""The guardian: the small process between an owner and one process tree.

It adopts the tree's orphans, reaps them, lives exactly as long as the tree, and ends the tree when the
owner dies. Everything in this package is imported by an interpreter started with `-I -S`, so it uses quick
modules of the standard library only: no psutil, no typing, no subprocess.

The way to a running command::

    owner ──spec──▶ nursery (one per owner, started once) ──fork──▶ guardian ──fork, exec──▶ command
      ▲                                                                │
      └───────────────── events, over a socket of their own ──────────┘
"""
