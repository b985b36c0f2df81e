"""`guardian.killing`: a tree is killed from its top, by a process to which its orphans come."""

from __future__ import annotations

import sys

import pytest
from stand_ins import script_output

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere orphans do not come to a guardian")

#: A subreaper with its children; each test says what these are and what becomes of them.
HOLDER = """
import os, signal, sys, time
from servermgr import platform
from servermgr.guardian.killing import Killing

assert platform.become_subreaper()
signal.alarm(30)
listings = []
platform.descendants = lambda *_: listings.append(1) or {{}}  # nothing of this takes a listing of a tree

def fork(action):
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            action(lambda: os.write(tell, b"x"))
        finally:
            os._exit(0)
    os.close(tell)
    return pid, told

def rest(say):
    say()
    while True:
        signal.pause()

def chain(depth, say):
    os.setsid()
    if depth:
        fork(lambda _: chain(depth - 1, say))
        say()
    rest(say)

def reap_all(killing):
    count = 0
    while True:
        try:
            pid, status = killing.reap_one()
        except ChildProcessError:
            over.append(True)
            return count
        if not pid:
            return count
        count += 1
        reaped.append((pid, status))

over, reaped = [], []
{body}
"""


def held(body: str) -> str:
    """What a holder prints that does so."""
    return script_output(HOLDER.format(body=body))


def test_generations_in_sessions_of_their_own_die_one_after_the_other() -> None:
    """Nobody lists them: each comes to the holder when its parent is dead. All are reaped, and named."""
    out = held("""
depth = 12
pid, told = fork(lambda say: chain(depth, say))
ready = b""
while len(ready) < 2 * depth + 1:
    ready += os.read(told, 100)
killing = Killing(lambda: platform.children(os.getpid()), None)
assert killing.strike() == 1
goes_on = True
while goes_on:
    goes_on = killing.pursue(lambda: reap_all(killing), lambda: bool(over))
print(len(over), len(reaped), {status for _, status in reaped})
print(len(killing.slain), set(killing.slain.values()), listings)
""")
    assert out in (
        f"1 13 {{9}}\n13 {{'{name}'}} []\n" for name in ("python", "python3", "python3.11", sys.executable[-15:])
    )


def test_without_the_pursuit_the_second_generation_lives() -> None:
    """The negative control: one stroke reaches the holder's own child alone."""
    out = held("""
pid, told = fork(lambda say: chain(1, say))
ready = b""
while len(ready) < 3:
    ready += os.read(told, 100)
killing = Killing(lambda: platform.children(os.getpid()), None)
killing.strike()
os.waitpid(pid, 0)
(orphan,) = platform.children(os.getpid())
print(platform.is_alive(orphan))
os.kill(orphan, 9)
os.waitpid(orphan, 0)
""")
    assert out == "True\n"


def test_a_group_is_killed_in_one_stroke_and_only_once() -> None:
    """Who is in it and comes to the holder later is not signalled again."""
    out = held("""
def family(say):
    os.setsid()
    for _ in range(5):
        fork(lambda _: rest(say))
    rest(say)

pid, told = fork(family)
ready = b""
while len(ready) < 6:
    ready += os.read(told, 100)
signals = []
killing = Killing(lambda: platform.children(os.getpid()), None)
real, group = os.kill, os.killpg
os.kill = lambda pid, number: signals.append(("process", pid))
os.killpg = lambda pid, number: (signals.append(("group", pid)), group(pid, number))
killing.strike()
while killing.pursue(lambda: reap_all(killing), lambda: bool(over)):
    pass
print(signals == [("group", pid)], len(over), len(reaped))
""")
    assert out == "True 1 6\n"


@pytest.mark.parametrize(
    ("action", "goes_on"), [("rest(say)", False), ("say()\n    while True: pass", True)], ids=["sleeps", "runs"]
)
def test_whoever_does_not_die_is_left_to_the_rounds(action: str, goes_on: bool) -> None:
    """At once where he sleeps; one who runs may only be waiting for a processor, and gets until the end of the turn."""
    out = held(f"""
def deaf(say):
    {action}

pid, told = fork(deaf)
os.read(told, 1)
killing = Killing(lambda: [pid], None)
killing.kill = lambda pid: None  # as one that may not be signalled
killing.strike()
began = time.monotonic()
print(killing.pursue(lambda: reap_all(killing), lambda: bool(over)), reaped, over)
print(time.monotonic() - began < 5, signal.pthread_sigmask(signal.SIG_BLOCK, ()))
os.kill(pid, 9)
os.waitpid(pid, 0)
""")
    assert out == f"{goes_on} [] []\nTrue set()\n"
