"""`python -m tests.retail run`: the fidelity run on the public sessions or any file of the same form."""

import argparse
import itertools
import json
import sys
from contextlib import ExitStack
from pathlib import Path

import psycopg

from shadow.embedded import open_sandbox, throw_away_folder
from tests.retail.data import PUBLIC_DATA, DataMissing, read_sessions, read_shop
from tests.retail.direct import DirectDriver
from tests.retail.driver import ClientDriver
from tests.retail.loader import load, schema
from tests.retail.run import Report, run
from tests.retail.session import Driver, Outcome


def main() -> int:
    """0 when every session is equal in every respect, 1 when one is not, 2 when there was no data to play."""
    options = _options()
    try:
        shop = read_shop(options.data)
        sessions = list(itertools.islice(read_sessions(options.sessions), options.limit))
    except DataMissing as missing:
        print(f"NOT RUN: {missing}", file=sys.stderr)
        return 2
    with ExitStack() as open_until_done:
        folder = open_until_done.enter_context(throw_away_folder("shadowdesk-retail-"))
        server = open_until_done.enter_context(open_sandbox(folder / "production"))
        with psycopg.connect(server.owner_url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE retail")
        connection = open_until_done.enter_context(psycopg.connect(server.url("retail"), autocommit=True))
        connection.execute(schema().encode())
        load(connection, shop)
        driver: Driver = DirectDriver(connection) if options.direct else ClientDriver(server, "retail")
        open_until_done.callback(driver.close)
        report = run(sessions, shop, connection, driver, _progress)
    return _tell(report, options.json)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.retail", description=__doc__)
    command = parser.add_subparsers(required=True).add_parser("run", help="play sessions and compare")
    command.add_argument("--sessions", type=Path, default=PUBLIC_DATA / "sessions.jsonl", metavar="FILE")
    command.add_argument("--data", type=Path, default=PUBLIC_DATA, metavar="DIR", help="users, orders, products")
    command.add_argument("--limit", type=int, default=None, metavar="N", help="play only the first N sessions")
    command.add_argument("--json", type=Path, default=None, metavar="OUT", help="write the figures here")
    command.add_argument("--direct", action="store_true", help="the tools alone on a plain database, no product")
    return parser.parse_args()


def _progress(outcome: Outcome) -> None:
    for where in outcome.differences:
        print(f"{outcome.session}: {where}", file=sys.stderr)


def _tell(report: Report, out: Path | None) -> int:
    figures = report.to_json()
    if out is not None:
        out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(" ".join(f"{name}={value}" for name, value in figures.items() if name != "differences"))
    return 0 if report.good else 1


if __name__ == "__main__":
    sys.exit(main())
