"""An owner to be killed: `python owner.py '{"argv": …, "how": …}'` starts one server and then does as told.

`how` is `manage` (a `CommandManager` with the options in `options`) or `plain` (a bare `Popen`: the negative
control). It prints one JSON line when the server is started, and then idles, or runs the Python code in `then`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

IDLE = 120.0


def main() -> None:
    order = json.loads(sys.argv[1])
    if order["how"] == "plain":
        server = subprocess.Popen(order["argv"], stdin=subprocess.DEVNULL, start_new_session=True)
        told = {"pid": server.pid, "guardian": None}
    else:
        from servermgr import CommandManager, recorded

        manager = CommandManager(order["argv"], **order.get("options", {}))
        manager.start(**order.get("start", {"wait": False}))
        mine = [record for record in recorded() if record.name == manager.name]
        told = {"pid": manager.process.pid, "guardian": mine[-1].guardian.pid if mine else None}
    print(json.dumps(told), flush=True)
    exec(order.get("then", ""), globals() | locals())
    time.sleep(IDLE)


if __name__ == "__main__":
    main()
