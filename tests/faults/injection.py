"""One injection from proposal to verdict: strike at the point, mend what was killed, reconcile elsewhere, judge."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from tests.faults.judge import Marker, Sight, head, look, mark, trail
from tests.faults.points import POINTS, Planned, Point
from tests.faults.replica import Answer, Ask, Replica, Waiting
from tests.faults.servers import NAMES, Server, Servers
from tests.faults.wire import Trap

#: Told to a person, these say that production was left as it was.
NOTHING = ("ReplayPostponed", "Drifted", "Diverged", "ConfirmationRefused", "SandboxUnavailable", "WrongState")
RECONCILE_S = 20.0
#: A server that was stopped stays away until the victim has answered, or for this long.
ANSWER_S = 1.0


@dataclass(kw_only=True)
class Result:
    """One injection as the report shows it; `wrong` holds in words what must not be."""

    seed: int
    point: str
    how: str
    outcome: str = ""
    reconciled: str = ""
    confirmed_again: str = ""
    doubled: bool = False
    lost: bool = False
    unknown: bool = False
    misled: bool = False
    audit: dict[str, Any] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Bench:
    """Three servers and two replicas: the victim behind the wires and a colleague who is never struck."""

    def __init__(self, servers: Servers) -> None:
        self.servers = servers
        self._victim_config = servers.configuration("victim", wired=True)
        self.colleague = Replica(servers.configuration("colleague", wired=False))
        self.victim = Replica(self._victim_config)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.victim.close()
        self.colleague.close()

    def new_victim(self, wanted: bool) -> None:
        """In place of one that was killed, or whose pools still wait before they try a server again."""
        if wanted:
            self.victim.close()
            self.victim = Replica(self._victim_config)


class Injection:
    """One planned injection on a bench."""

    def __init__(self, bench: Bench, planned: Planned) -> None:
        self._bench, self._servers, self._planned = bench, bench.servers, planned
        self._stopped: Server | None = None
        self._struck_control = False
        self._killed_process = False
        self._told: list[Answer] = []
        self._meanwhile: list[Answer] = []
        self.result = Result(seed=planned.seed, point=planned.point, how=planned.how)
        self._marker: Marker = mark(self._servers, f"f{planned.seed}")
        self._waiting: Waiting = bench.colleague.prepare(self._marker.statements, f"injection {planned.seed}")

    def run(self) -> Result:
        """Strikes, mends, reconciles and judges."""
        began, after = time.monotonic(), head(self._servers)
        if self._planned.point in POINTS:
            self._strike(POINTS[self._planned.point])
        else:
            self._double(self._planned.how)
        self._mend()
        self._bench.new_victim(self._killed_process or self._struck_control)
        self._judge_answers(self._sight())
        self._reconcile()
        settled = self._sight()
        self._judge_settled(settled)
        self._confirm_again(settled)
        self._judge_trail(after)
        self.result.seconds = round(time.monotonic() - began, 3)
        return self.result

    # ------------------------------------------------------------------------------------------------ strike

    def _strike(self, point: Point) -> None:
        trap = Trap(
            needle=point.needle,
            when=point.when,
            primed_by=point.primed_by,
            nth=point.nth,
            act=lambda: self._act(point),
        )
        if self._planned.seed % 2:  # half of them as on the page, which opens the session while a person reads
            self._bench.victim.ask(Ask(verb="read", proposal=self._waiting))
            self._bench.victim.answers()
        wire = self._servers.wires[point.server]
        wire.trap = trap
        try:
            self._bench.victim.ask(Ask(verb="confirm", proposal=self._waiting))
            self._told = self._victim_answers()
        finally:
            fired = trap.fired.is_set() and trap.done.wait(60)
            wire.trap = None
        if not fired:
            self.result.wrong.append("the point was never reached")
        self.result.outcome = self._told[0].kind if self._told else "no answer: killed"

    def _victim_answers(self) -> list[Answer]:
        """Where it waits for the server that was stopped, the server comes back."""
        victim = self._bench.victim
        if not victim.has_answered(ANSWER_S):
            self._mend()
        return victim.answers()

    def _mend(self) -> None:
        if self._stopped is not None:
            self._servers.start_again(self._stopped)
            self._stopped = None

    def _act(self, point: Point) -> bool:
        """What happens at the point; True when the traffic goes on."""
        how = self._planned.how
        if how == "cut":
            return False
        if how in ("kill9", "vanish"):
            self._killed_process = True
            self._bench.victim.kill()
            if how == "vanish":
                self._stall()
            return False
        if how == "terminate":
            self._terminate(point)
        elif how == "stall":
            self._stall()
        else:
            [self._stopped] = [name for name in NAMES if name == how]
            self._struck_control = how == "control"
            self._servers.stop(self._stopped)
        return not point.lost

    def _terminate(self, point: Point) -> None:
        """Every backend that works for the victim on that server."""
        names = {"production": "shadowdesk (replay %|ahead)", "control": "shadowdesk control"}
        self._servers.rows(
            point.server,
            "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity WHERE application_name SIMILAR TO %s",
            names[point.server],
        )

    def _stall(self) -> None:
        """While nothing moves, a colleague confirms, and an engineer rejects what then waits for a person again."""
        colleague = self._bench.colleague
        for verb in ("confirm", "reject"):
            colleague.ask(Ask(verb=verb, proposal=self._waiting, person="engineer"))
            self._meanwhile += colleague.answers()

    def _double(self, how: str) -> None:
        victim, colleague = self._bench.victim, self._bench.colleague
        if how == "a resent form":
            for _ in range(2):
                victim.ask(Ask(verb="confirm", proposal=self._waiting))
                self._told += victim.answers()
        elif how in ("two threads", "eight threads"):
            victim.ask(Ask(verb="confirm", proposal=self._waiting, times=2 if how == "two threads" else 8))
            self._told = victim.answers()
        else:
            other = "engineer" if how == "two people" else "rep"
            victim.ask(Ask(verb="confirm", proposal=self._waiting))
            colleague.ask(Ask(verb="confirm", proposal=self._waiting, person=other))
            with ThreadPoolExecutor(2) as threads:
                both = threads.map(lambda replica: replica.answers(), (victim, colleague))
            self._told = [answer for answers in both for answer in answers]
        self.result.outcome = ", ".join(sorted(answer.kind for answer in self._told))

    # ------------------------------------------------------------------------------------------------ judge

    def _sight(self) -> Sight:
        return look(self._servers, self._marker, self._waiting)

    def _judge_answers(self, sight: Sight) -> None:
        """Nobody may be told that nothing happened where it did, or that it happened where it did not."""
        struck = self._planned.point in POINTS
        for answer in (*self._told, *self._meanwhile):
            if answer.kind.startswith("crash"):
                self._wrong("misled", f"a person was shown a crash: {answer.kind} {answer.text[:200]}")
            if answer.kind == "applied" and not sight.receipts:
                self._wrong("misled", "a person was told 'applied' and production has no receipt")
        told_nothing = [a for a in self._told if a.kind in NOTHING] if struck else []
        told_nothing += [a for a in self._meanwhile if a.kind == "ReplayPostponed"]
        if told_nothing and sight.receipts and not any(a.kind == "applied" for a in self._meanwhile):
            self._wrong("misled", f"a person was told that nothing happened and it did: {told_nothing[0]}")

    def _reconcile(self) -> None:
        """Another process asks production, as often as it says that it is not known yet."""
        said: list[str] = []
        deadline = time.monotonic() + RECONCILE_S
        while self._state() in ("replaying", "unknown") and time.monotonic() < deadline:
            self._bench.colleague.ask(Ask(verb="confirm", proposal=self._waiting))
            [answer] = self._bench.colleague.answers()
            said += [answer.kind] if said[-1:] != [answer.kind] else []
            if answer.kind.startswith("crash"):
                self._wrong("misled", f"reconciling crashed: {answer.kind} {answer.text[:200]}")
            if answer.kind == "OutcomeUnknown":
                time.sleep(0.02)
        self.result.reconciled = " then ".join(said) or "not needed"

    def _state(self) -> str:
        rows = self._servers.rows("control", "SELECT state FROM control.proposals WHERE id = %s", self._waiting.id)
        return str(rows[0][0])

    def _judge_settled(self, sight: Sight) -> None:
        if sight.state in ("replaying", "unknown"):
            self._wrong("unknown", f"still unknown after {RECONCILE_S} s: {sight}")
        elif sight.receipts > 1 or sight.times_acted > 1:
            self._wrong("doubled", f"applied more than once: {sight}")
        elif not sight.settled:
            self._wrong("lost", f"production and control disagree: {sight}")

    def _confirm_again(self, before: Sight) -> None:
        """A pending proposal must still be applicable; one that is over must stay as it is."""
        self._bench.colleague.ask(Ask(verb="confirm", proposal=self._waiting))
        [answer] = self._bench.colleague.answers()
        self.result.confirmed_again = answer.kind
        sight = self._sight()
        if sight.receipts > 1 or sight.times_acted > 1:
            self._wrong("doubled", f"a further confirm applied it again: {sight}")
        elif before.state == "pending" and not (sight.state == "applied" and sight.settled):
            self._wrong("lost", f"the proposal could not be applied any more: {answer} {sight}")
        elif before.state != "pending" and sight != before:
            self._wrong("lost", f"a further confirm changed something: {before} → {sight}")

    def _judge_trail(self, after: int) -> None:
        found = trail(self._servers, self._waiting, after)
        self.result.audit = asdict(found)
        excused = self._killed_process or self._struck_control or self._cut_trail()
        if found.open and not excused:
            self.result.wrong.append(f"{found.open} calls have no outcome in the audit trail")
        if found.open and not found.closed_later:
            self.result.wrong.append("an intent without an outcome, and no later event says what became of it")

    def _cut_trail(self) -> bool:
        """The connection on which the outcome travelled was the one that was struck."""
        return self._planned.point == "before the audit outcome" and self._planned.how in ("cut", "terminate")

    def _wrong(self, what: str, words: str) -> None:
        setattr(self.result, what, True)
        self.result.wrong.append(words)
