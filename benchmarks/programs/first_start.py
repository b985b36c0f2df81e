"""The first server of a program's life: `first_start servermgr|popen`. Prints the seconds until it is started."""

import sys
import time

SLEEP = ["sleep", "300"]  # nothing but what is measured is imported here, or it would be paid for beforehand


def main() -> None:
    if sys.argv[1] == "servermgr":
        from servermgr import CommandManager  # noqa: PLC0415

        manager = CommandManager(SLEEP)
        began = time.perf_counter()
        manager.start()
        took = time.perf_counter() - began
        manager.stop()
    else:
        import subprocess  # noqa: PLC0415

        began = time.perf_counter()
        process = subprocess.Popen(SLEEP, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        took = time.perf_counter() - began
        process.kill()
        process.wait()
    print(took)


if __name__ == "__main__":
    main()
