"""Traces: a lane for each process of a tree, from its beginning to its end, in a file that is whole at any moment."""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from stand_ins import DEAF, SLEEP, Server, content, lives, run_script, sh, until

from servermgr import CommandManager, Stack
from servermgr.base import Manager, WorkerError
from servermgr.guardian import protocol
from servermgr.guardian.outbox import MOST_KEPT, Outbox
from servermgr.trace import Trace, trace_of

if TYPE_CHECKING:
    from collections.abc import Iterator

#: A worker with a child of its own and a daemon, which has forked twice and changed its session.
FAMILY = '(setsid sh -c "sleep 61 & echo up >$1" &) ; sleep 60 & exec sleep 62'


class Lane(NamedTuple):
    """What a trace says of one process."""

    names: list[str]
    happened: list[str]
    ended: bool


def events_of(path: Path) -> list[dict[str, Any]]:
    """The events of a trace, as a parser of JSON reads them."""
    for attempt in range(20):
        try:
            events = json.loads(path.read_text())
        except json.JSONDecodeError:  # in the middle of a write, where a reader may see the new end at the old length
            if attempt == 19:
                raise
            time.sleep(0.01)
        else:
            assert isinstance(events, list)
            return events
    raise AssertionError


def lanes_of(path: Path) -> dict[int, Lane]:
    """The lanes of a trace, by pid, once it is found in order: in each what begins ends, or is inside what goes on."""
    lanes: dict[int, Lane] = {}
    for pid in dict.fromkeys(event["pid"] for event in events_of(path)):
        told = [event for event in events_of(path) if event["pid"] == pid]
        names = [event["args"]["name"] for event in told if event["ph"] == "M"]
        happened = [event for event in told if event["ph"] != "M"]
        lanes[pid] = Lane(names, [event["name"] for event in happened], nests(happened))
    return lanes


def nests(happened: list[dict[str, Any]]) -> bool:
    """Whether all that begins ends. Fails the test where times run backward, or something is outside its lane."""
    began: list[tuple[str, int]] = []
    first, last = happened[0]["ts"], 0
    for event in happened:
        if event["ph"] == "X":  # told when it is over
            assert event["dur"] >= 0
            assert event["ts"] >= began[0][1]
            last = max(last, event["ts"])
            continue
        assert event["ts"] >= last, f"times run backward: {happened}"
        last = event["ts"]
        if event["ph"] == "B":
            began.append((event["name"], event["ts"]))
            continue
        assert began, f"outside its lane: {event}"
        if event["ph"] == "E":
            assert began.pop()[0] == event["name"]
    spans = [event for event in happened if event["ph"] == "X"]
    assert all(first <= span["ts"] and span["ts"] + span["dur"] <= max(last, first) for span in spans)
    return not began


def named(lanes: dict[int, Lane], name: str) -> Lane:
    """The one lane that is called so."""
    (found,) = [lane for lane in lanes.values() if lane.names[-1] == name]
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the trace goes."""
    return tmp_path / "trace.json"


# ---- a tree ---------------------------------------------------------------------------------------------------


def test_each_process_has_a_lane_that_ends(path: Path, tmp_path: Path) -> None:
    """Also a daemon that has forked twice, and its child; with what was sent to them, by name, and how they ended."""
    up = tmp_path / "up"
    with Trace(path) as trace, CommandManager(sh(FAMILY, up), name="web", trace=trace) as server:
        content(up)
        pids = {info.pid for info in until(lambda: all_sleep(server), "the tree")}
        until(lambda: pids <= set(lanes_of(path)), "all of them")
        worker = server.process.pid
    lanes = lanes_of(path)
    assert all(lane.ended for lane in lanes.values())
    assert named(lanes, "guardian of web").happened[1:3] == ["stopping", "stop"]
    assert lanes[worker].names == ["web"]
    story = lanes[worker].happened
    assert [word for word in story if not word.startswith("became")] == [
        "web", "spawn", "starting", "ready", "sent SIGTERM", "killed by SIGTERM", "web",
    ]  # fmt: skip
    for pid in pids - {worker}:
        assert lanes[pid].happened[-3:-1] == ["sent SIGTERM", "killed by SIGTERM"]


def all_sleep(server: Manager) -> list[Any]:
    """The tree, once it is complete and nobody is a shell any more."""
    found = server.processes()
    return found if [info.name for info in found] == ["sleep"] * 3 else []


def test_an_untraced_server_has_no_part_in_it(path: Path) -> None:
    """The negative control: neither a lane, nor a thread that listens."""
    before = set(threading.enumerate())
    with Trace(path), CommandManager(SLEEP, name="other"):
        assert set(threading.enumerate()) == before
    assert events_of(path) == []


def test_who_is_deaf_is_shown_to_be_killed(path: Path, tmp_path: Path) -> None:
    """First the polite signal, then, once, the forced one."""
    up = tmp_path / "up"
    server = CommandManager(sh(DEAF, up), name="deaf", grace_period=0.2, trace=path)
    server.start()
    content(up)
    server.stop()
    story = named(lanes_of(path), "deaf").happened
    sent = [word for word in story if word.startswith(("sent", "killed"))]
    assert sent == ["sent SIGTERM", "sent SIGKILL", "killed by SIGKILL"]


def test_a_signal_of_the_owner_and_an_exit_status_are_shown(path: Path, tmp_path: Path) -> None:
    """Also of one that ends by itself."""
    script = 'trap "exit 7" USR1; echo up >"$1"; while :; do sleep 0.05; done'
    server = CommandManager(sh(script, tmp_path / "up"), name="counts", trace=path)
    server.start()
    content(tmp_path / "up")
    server.process.send_signal(signal.SIGUSR1)
    server.wait()
    story = named(lanes_of(path), "counts").happened
    assert story.index("sent SIGUSR1") < story.index("exit status 7")


def test_a_daemon_has_a_lane_beside_its_launcher(path: Path, tmp_path: Path) -> None:
    """The lane of the daemon has the server's name, from the moment that it is the worker."""
    pidfile = tmp_path / "pid"
    script = 'setsid sh -c "echo \\$\\$ >$1; exec sleep 60" & exit 0'
    with CommandManager(sh(script, pidfile), name="cache", pidfile=pidfile, trace=path) as server:
        daemon = server.process.pid
    lanes = lanes_of(path)
    assert "exit status 0" in named(lanes, "cache (launcher)").happened
    assert {"worker", "starting", "ready", "sent SIGTERM", "killed by SIGTERM"} <= set(lanes[daemon].happened)
    assert lanes[daemon].names[-1] == "cache"
    assert all(lane.ended for lane in lanes.values())


def test_when_the_guardian_is_killed_the_lanes_end_all_the_same(path: Path) -> None:
    """And say so."""
    server = CommandManager(SLEEP, name="web", crash_grace=1.0, trace=path)
    server.start()
    until(lambda: [lane for lane in lanes_of(path).values() if lane.names == ["guardian of web"]], "its lane")
    (guardian,) = [pid for pid, lane in lanes_of(path).items() if lane.names == ["guardian of web"]]
    os.kill(guardian, signal.SIGKILL)
    server.wait()
    lanes = lanes_of(path)
    assert all(lane.ended for lane in lanes.values())
    assert "gone: its guardian was killed" in named(lanes, "web").happened


def test_an_adopted_process_is_shown_as_far_as_it_is_known(path: Path) -> None:
    """From the adoption on; its child when it is looked at; signals, and the worker's own end."""
    server = Manager("adopted", trace=path)
    server.process = subprocess.Popen(["/bin/sh", "-c", "sleep 60 & wait"])
    until(lambda: len(server.processes()) == 2 and server.processes()[-1].name == "sleep", "the child")
    child = server.processes()[-1].pid
    server.stop()
    lanes = lanes_of(path)
    story = named(lanes, "adopted").happened
    assert [word for word in story if not word.startswith("became")] == [
        "adopted", "adopted", "sent SIGTERM", "killed by SIGTERM", "adopted",
    ]  # fmt: skip
    assert "sent SIGTERM" in lanes[child].happened
    assert all(lane.ended for lane in lanes.values())


# ---- one trace for many ---------------------------------------------------------------------------------------


def test_many_managers_write_into_one_trace_from_many_threads(path: Path) -> None:
    """Each has its lanes, all of them whole and in order."""
    with Trace(path) as trace:
        servers = [CommandManager(sh("sleep 60 & wait"), name=f"s{number}", trace=trace) for number in range(6)]
        threads = [threading.Thread(target=lambda one=server: (one.start(), one.stop())) for server in servers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lanes = lanes_of(path)
    assert all(lane.ended for lane in lanes.values())
    for server in servers:
        assert {"spawn", "ready"} <= set(named(lanes, server.name).happened)
        assert "stopping" in named(lanes, f"guardian of {server.name}").happened


def test_a_stack_hands_its_trace_to_whoever_has_none(path: Path, tmp_path: Path) -> None:
    """Also to the managers of a stack in it; one that has a trace keeps it."""
    own = tmp_path / "own.json"
    db, app = CommandManager(SLEEP, name="db"), CommandManager(SLEEP, name="app", trace=own)
    with Stack(Stack(db), app, trace=path):
        pass
    assert "ready" in named(lanes_of(path), "db").happened
    assert "ready" in named(lanes_of(own), "app").happened
    assert not [lane for lane in lanes_of(path).values() if "app" in lane.names]


def test_a_path_is_continued_by_the_next_start_and_begun_anew_by_the_next_program(path: Path) -> None:
    """Two managers that name one file share it, too."""
    path.write_text("what was there before")
    first, second = CommandManager(SLEEP, name="first", trace=path), CommandManager(SLEEP, name="second", trace=path)
    for server in (first, second, first):
        with server:
            pass
    lanes = lanes_of(path)
    assert [lane.names[-1] for lane in lanes.values() if "spawn" in lane.happened] == ["first", "second", "first"]
    run_script("import sys, servermgr.trace as t; t.trace_of(sys.argv[1])", path, check=True)
    assert events_of(path) == []


# ---- the file -------------------------------------------------------------------------------------------------

OWNER = """
import sys, time, servermgr
server = servermgr.CommandManager(["sh", "-c", "sleep 60 & wait"], name="web", crash_grace=1.0, trace=sys.argv[1])
server.start()
print(server.process.pid, flush=True)
time.sleep(60)  # it does nothing, and asks for nothing
"""


def test_the_trace_of_a_killed_program_can_be_read(path: Path) -> None:
    """It has what happened until then, without anybody having waited for it; what goes on has no end there."""
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(path)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    pid = int(owner.stdout.readline())
    until(lambda: [lane for lane in lanes_of(path).values() if "sleep" in lane.names], "the child")
    owner.kill()
    owner.wait()
    owner.stdout.close()
    until(lambda: not lives(pid), "the end of the server")
    lane = lanes_of(path)[pid]
    assert lane.happened[:4] == ["web", "spawn", "starting", "ready"]
    assert not lane.ended


def test_the_file_is_whole_after_each_event(path: Path) -> None:
    """Whoever reads it meanwhile, or after the program was killed, reads a whole document."""
    trace = Trace(path)
    counts = [len(events_of(path))]
    for number in range(5):
        trace.begin(number + 2, f"p{number}")
        trace.instant(number + 2, "ä\n]", text="]\n")
        counts.append(len(events_of(path)))
    assert counts == [0, 3, 6, 9, 12, 15]
    trace.close()
    trace.close()
    assert all(lane.ended for lane in lanes_of(path).values())


def test_a_trace_that_cannot_be_written_is_refused_before_anything_starts(tmp_path: Path) -> None:
    """As an error of the manager's, which names the file."""
    server = CommandManager(SLEEP, name="web", trace=tmp_path / "missing" / "trace.json")
    with pytest.raises(WorkerError, match=r"web.*missing/trace\.json"):
        server.start()
    assert server.process is None


def test_a_trace_that_is_lost_later_costs_the_trace_alone(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """That is logged, once; the server does not hear of it. The next start begins the file anew."""
    server = CommandManager(SLEEP, trace=path)
    with server, caplog.at_level(logging.WARNING, logger="servermgr"):
        until(lambda: "ready" in path.read_text())
        path.unlink()
    assert len([record for record in caplog.records if str(path) in record.getMessage()]) == 1
    with server:
        pass
    assert all(lane.ended for lane in lanes_of(path).values())


def test_a_fork_writes_nothing(path: Path) -> None:
    """Two who write over each other's end would leave a file that nobody can read."""
    trace = Trace(path)
    child = os.fork()
    if child == 0:
        trace.begin(2, "in the fork")
        os._exit(0)
    os.waitpid(child, 0)
    trace.begin(3, "in the parent")
    assert [lane.names for lane in lanes_of(path).values()] == [["in the parent"]]
    assert trace_of(trace) is trace


# ---- the way of an event --------------------------------------------------------------------------------------


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The socket of a guardian, and its owner's."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(5.0)
        yield ours, theirs


def numbered(count: int) -> list[protocol.Message]:
    """Events in order."""
    return [{"is": "event", "what": "seen", "pid": number, "at": 0.0, "name": "x" * 15} for number in range(count)]


def test_an_owner_who_does_not_listen_costs_events_and_never_holds_the_guardian_up(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """What he must hear still has room; what was kept comes in order, and how much was lost is told."""
    ours, theirs = pair
    box = Outbox(ours)
    for event in numbered(MOST_KEPT + 2000):
        box.put(event)  # a single send that waited would fail by its time limit
    assert not box.is_empty
    protocol.send(ours, {"is": "done", "text": "y" * 20_000})  # as above
    messages = list(heard(theirs, box))
    told = [message for message in messages if message["is"] == "event" and message["what"] == "seen"]
    assert [message["pid"] for message in told] == list(range(len(told)))
    (lost,) = [message for message in messages if message.get("what") == "lost"]
    assert len(told) + lost["count"] == MOST_KEPT + 2000


def heard(theirs: socket.socket, box: Outbox) -> Iterator[protocol.Message]:
    """All that comes to an owner who listens again."""
    reader = protocol.Reader(theirs)  # type: ignore[arg-type]
    while select.select([theirs], [], [], 0.2)[0]:
        messages = reader.receive()
        yield from messages
        box.heard(sum(message["is"] == "event" for message in messages))


def test_an_owner_who_is_gone_is_no_failure(pair: tuple[socket.socket, socket.socket]) -> None:
    """The guardian has better things to do."""
    ours, theirs = pair
    theirs.close()
    box = Outbox(ours)
    for event in numbered(10):
        box.put(event)
    assert box.is_empty


def test_a_subclass_of_the_old_days_has_a_trace_too(path: Path) -> None:
    """By its keyword; it is none of `kwargs`."""
    server = Server(SLEEP)
    assert (server.trace, server.kwargs) == (None, {})
    server.trace = path
    server.start()
    server.stop()
    assert "spawn" in named(lanes_of(path), "stand-in").happened
    assert Manager("x", trace=path, other=1).kwargs == {"other": 1}
