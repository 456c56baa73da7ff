"""Plays one support session through a driver and judges what production then holds; called by run.py."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import psycopg

from tests.retail.changes import Change
from tests.retail.data import Document, Session, Shop
from tests.retail.documents import differences, documents_of


class Driver(Protocol):
    """One way of getting a session's writes into production. One session at a time: start … confirm."""

    def start(self, user_id: str, request: str) -> None:
        """Opens the session's one dry run on that tenant."""

    def call(self, tool: str, arguments: Document) -> str | None:
        """Calls one domain tool; the words of its refusal, None where it was done."""

    def propose(self) -> frozenset[Change] | None:
        """Freezes what was done: the changes a person is asked to confirm (none where nothing changed).

        None where this way shows no diff at all.
        """

    def confirm(self) -> None:
        """The person's yes; returns when production holds the rows. Nothing to confirm is no error."""

    def close(self) -> None:
        """Ends the driver and what it started."""


@dataclass(frozen=True, kw_only=True)
class Played:
    """What a driver answered: refusal or None per action, the confirmed changes, the time in ms."""

    refusals: tuple[str | None, ...]
    confirmed: frozenset[Change] | None
    ms: float


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One session judged; `diff_equal` is None where the driver shows no diff."""

    session: str
    writes: int
    equal: bool
    refusals_equal: bool
    diff_equal: bool | None
    differences: tuple[str, ...]
    ms: float


def play(session: Session, driver: Driver) -> Played:
    """Plays one session into production; the change stays (see changes.put_back)."""
    started = time.perf_counter()
    driver.start(session.user_id, session.request)
    refusals = tuple(driver.call(action.name, action.arguments) for action in session.actions)
    confirmed = driver.propose()
    driver.confirm()
    return Played(refusals=refusals, confirmed=confirmed, ms=(time.perf_counter() - started) * 1000)


def judge(
    session: Session, played: Played, shop: Shop, connection: psycopg.Connection, measured: frozenset[Change]
) -> Outcome:
    """Holds production's documents and its measured change against what was expected and confirmed."""
    documents = list(_documents(session, shop, connection))
    refused = list(_refusals(session, played.refusals))
    shown = [] if played.confirmed is None else list(_shown(played.confirmed, measured))
    return Outcome(
        session=session.id,
        writes=len(session.actions),
        equal=not documents,
        refusals_equal=not refused,
        diff_equal=None if played.confirmed is None else not shown,
        differences=tuple(documents + refused + shown),
        ms=played.ms,
    )


def _documents(session: Session, shop: Shop, connection: psycopg.Connection) -> Iterator[str]:
    """All of the user's documents count: those not expected to differ must be as they were."""
    user = shop.users[session.user_id]
    orders = {key: shop.orders[key] for key in user["orders"]}
    found = documents_of(connection, session.user_id)
    yield from differences({**orders, **session.orders}, found.orders, "orders")
    yield from differences({session.user_id: user, **session.users}, found.users, "users")


def _refusals(session: Session, refusals: tuple[str | None, ...]) -> Iterator[str]:
    for at, (action, words) in enumerate(zip(session.actions, refusals, strict=True), start=1):
        if action.refused and words is None:
            yield f"action {at}, {action.name}: a refusal was expected"
        if words is not None and not action.refused:
            yield f"action {at}, {action.name}: refused: {words}"


def _shown(confirmed: frozenset[Change], measured: frozenset[Change]) -> Iterator[str]:
    for one in sorted(confirmed - measured, key=repr):
        yield f"confirmed, but not in production: {one}"
    for one in sorted(measured - confirmed, key=repr):
        yield f"in production, but not confirmed: {one}"
