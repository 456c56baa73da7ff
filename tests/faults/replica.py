"""One replica: a process of its own with its own desk, which does what it is asked through a pipe until it is killed."""

import logging
import multiprocessing
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from mcp_server.assembly import Assembly, open_desk
from mcp_server.errors import EXPLAINED
from mcp_server.identity import Caller
from mcp_server.settings import load_settings
from mcp_server.views import ProposalView

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.faults.replica"])


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """A proposal as its person sees it."""

    id: str
    digest: str
    rows: int


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a person was told: 'applied', 'rejected', or the error's name with its text."""

    kind: str
    text: str = ""


@dataclass(frozen=True, kw_only=True)
class Ask:
    """A verb for a proposal, `times` at the same moment from as many threads."""

    verb: str
    proposal: Waiting
    person: str = "rep"
    times: int = 1


class Replica:
    """A running process; `kill` is SIGKILL."""

    def __init__(self, config: Path) -> None:
        self._pipe, theirs = _FORKS.Pipe()
        self._process = _FORKS.Process(target=_serve, args=(theirs, str(config)), daemon=True)
        self._process.start()
        theirs.close()

    def prepare(self, statements: list[str], request: str) -> Waiting:
        """A dry run of these statements, proposed."""
        self._pipe.send((statements, request))
        waiting: Waiting = self._said(60)
        return waiting

    def ask(self, ask: Ask) -> None:
        """Says what to do; `answers` waits for it."""
        self._pipe.send(ask)

    def has_answered(self, seconds: float) -> bool:
        """True when its answer is there, or it is dead."""
        return self._pipe.poll(seconds)

    def answers(self, seconds: float = 60) -> list[Answer]:
        """What its people were told; nothing when it was killed meanwhile."""
        try:
            told: list[Answer] = self._said(seconds)
        except (EOFError, ConnectionResetError, BrokenPipeError):
            return []
        return told

    def _said(self, seconds: float):  # type: ignore[no-untyped-def]
        if not self._pipe.poll(seconds):
            raise TimeoutError(f"a replica said nothing for {seconds} s")
        said = self._pipe.recv()
        if isinstance(said, str):
            raise RuntimeError(said)
        return said

    def kill(self) -> None:
        """kill -9; returns when the kernel has closed its connections."""
        self._process.kill()
        self._process.join()

    def close(self) -> None:
        """Ends it."""
        self.kill()
        self._pipe.close()


def _serve(pipe: Connection, config: str) -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    with open_desk(load_settings(Path(config)), applier=True) as assembly:
        while True:
            try:
                asked = pipe.recv()
            except EOFError:
                return
            try:
                pipe.send(_confirm(assembly, asked) if isinstance(asked, Ask) else _prepare(assembly, *asked))
            except Exception as error:
                pipe.send(f"{type(error).__name__}: {error}")


def caller(person: str) -> Caller:
    """One of the two people of the configuration."""
    return Caller(name=person, role=person, channel="page", client="faults")


def _prepare(assembly: Assembly, statements: list[str], request: str) -> Waiting:
    rep, desk = caller("rep"), assembly.desk
    dry_run = desk.start_dry_run(rep, "1", request, "fault injection")
    for text in statements:
        desk.run(rep, dry_run.id, text, "as asked")
    view: ProposalView = desk.propose(rep, dry_run.id)
    assembly.shadows.forget(dry_run.id)
    return Waiting(id=view.id, digest=view.digest, rows=view.rows)


def _confirm(assembly: Assembly, ask: Ask) -> list[Answer]:
    together = threading.Barrier(ask.times)

    def one(_: int) -> Answer:
        together.wait()
        return _answer(assembly, ask)

    with ThreadPoolExecutor(ask.times) as threads:
        return list(threads.map(one, range(ask.times)))


def _answer(assembly: Assembly, ask: Ask) -> Answer:
    """The verb through the governor, as the review page calls it."""
    who, desk, about = caller(ask.person), assembly.desk, ask.proposal
    try:
        if ask.verb == "reject":
            arguments = {"proposal_id": about.id, "comment": "no"}
            assembly.governor.run(who, "reject", arguments, lambda: desk.reject(who, about.id, "no"))
            return Answer(kind="rejected")
        if ask.verb == "read":
            desk.expect(desk.proposal(who, about.id))
            return Answer(kind="read")
        typed = {"proposal_id": about.id, "digest": about.digest, "typed_rows": str(about.rows)}
        assembly.governor.run(who, "confirm", typed, lambda: desk.confirm(who, about.id, about.digest, about.rows))
        return Answer(kind="applied")
    except EXPLAINED as error:
        return Answer(kind=type(error).__name__, text=str(error))
    except Exception as error:
        return Answer(kind=f"crash:{type(error).__name__}", text=str(error))
