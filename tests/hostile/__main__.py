"""`python -m tests.hostile`: the whole of it, with counts; exit 0 when nothing changed and every call was audited."""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import anyio

from tests.hostile import attack
from tests.hostile.serving import served
from tests.processes import alive, until


def run(examples: int, parallel: int) -> int:
    """Attacks a staged business; prints what was sent and what broke."""
    folder = Path(tempfile.mkdtemp(prefix="sd-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        with attack.scene(folder) as scene:
            attack.tools(scene, examples)
            attack.pages(scene, examples)
            attack.commands(scene, max(1, examples // 10))
            with served(scene) as address:
                attack.wire(scene, address, scene.stage.tokens["rep"])
            anyio.run(attack.leaving, scene, parallel)
            anyio.run(attack.starting_and_leaving, scene, 10)
            broken = scene.broken()
            for name, number in sorted(scene.counts.items()):
                print(f"{number:7}  {name}")
            print(f"{len(scene.events()):7}  audit events")
    finally:
        until(lambda: not any(alive(folder)))
        shutil.rmtree(folder)
    for one in broken:
        print(f"BROKEN  {one}")
    return 1 if broken else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("--examples", type=int, default=200, help="calls of each tool; a tenth for each command")
    parser.add_argument("--parallel", type=int, default=1000, help="calls at once")
    given = parser.parse_args()
    sys.exit(run(given.examples, given.parallel))
