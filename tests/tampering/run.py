"""Throws entries at a stack, one after the other, and counts what broke; called by the suite and by `__main__`."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import psycopg

from mcp_server.errors import EXPLAINED
from tests.tampering.entry import Entry
from tests.tampering.judge import Case, Course, breaches, picture
from tests.tampering.stack import PERSON, REP, Answer, Stack

_CHANNEL = re.compile(r"(?:notify\s+|pg_notify\s*\(\s*')([a-z_]\w*)", re.IGNORECASE)
#: The statement timeout has its own answer; a machine under load is given one more chance.
_TIMING = {"finished_within_4s", "bystander_dml_not_blocked"}


@dataclass(kw_only=True)
class Outcome:
    """What a run found; `limits` are known limits that ended in the documented, clear error."""

    entries: int = 0
    passed: int = 0
    breaches: list[dict[str, str]] = field(default_factory=list)
    benign_refused: list[str] = field(default_factory=list)
    limits: list[str] = field(default_factory=list)
    not_sendable: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """As it stands in the report."""
        return {
            "entries": self.entries, "passed": self.passed, "breaches": self.breaches,
            "benign_refused": self.benign_refused, "known_limits": self.limits, "not_sendable": self.not_sendable,
        }  # fmt: skip


class Thrower:
    """Keeps one dry run for entries that only touch the shadow; others get their own."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._shared = ""

    def run(self, entries: Iterable[Entry]) -> Outcome:
        """Every entry in turn."""
        outcome = Outcome()
        for entry in entries:
            outcome.entries += 1
            found, course = self._one(entry)
            if found and set(found) <= _TIMING:
                found, course = self._one(entry)
            self._note(outcome, entry, found, course)
        return outcome

    def _note(self, outcome: Outcome, entry: Entry, found: list[str], course: Course) -> None:
        if any(not answer.sent for answer in course.answers):
            outcome.not_sendable.append(entry.id)
        if entry.known_limit and course.refused and not found and self._explained(course):
            outcome.limits.append(entry.id)
        elif entry.expected == "allowed" and course.refused and not entry.known_limit:
            outcome.benign_refused.append(entry.id)
        outcome.breaches += [{"id": entry.id, "check": name} for name in found]
        outcome.passed += not found and entry.id not in outcome.benign_refused

    def _explained(self, course: Course) -> bool:
        """A refusal says what did not happen."""
        texts = [answer.text for answer in course.answers if answer.refused] + [course.replay_refused]
        return all(re.search(r"Nothing|nothing|rolled back", text) for text in texts if text)

    def _one(self, entry: Entry) -> tuple[list[str], Course]:
        if entry.compare:
            return self._compared(entry)
        shared = entry.surface == "shadow"
        dry_run_id = self._shared_dry_run() if shared else self._stack.start()
        filled = entry.filled(self._stack.places(dry_run_id))
        before = picture(self._stack, dry_run_id)
        with psycopg.connect(self._stack.owner_url, autocommit=True) as listener:
            for channel in sorted({c for text in filled.statements for c in _CHANNEL.findall(text)}):
                listener.execute(f'LISTEN "{channel.lower()}"'.encode())
            course = self._course(filled, filled.statements, dry_run_id)
            course.notified = any(True for _ in listener.notifies(timeout=0.05)) if _CHANNEL.search(
                " ".join(filled.statements)
            ) else False  # fmt: skip
        after = picture(self._stack, dry_run_id)
        case = Case(entry=filled, course=course, before=before, after=after, stack=self._stack, dry_run_id=dry_run_id)
        found = breaches(case)
        self._clear(dry_run_id, course, shared=shared)
        return found, course

    def _shared_dry_run(self) -> str:
        if not self._shared:
            self._shared = self._stack.start()
            self._stack.call("query_shadow", {"dry_run_id": self._shared, "sql": "SELECT count(*) FROM contracts"})
        return self._shared

    def _clear(self, dry_run_id: str, course: Course, *, shared: bool) -> None:
        if course.applied:
            self._stack.put_back()
        if not shared:
            self._stack.assembly.shadows.drop(dry_run_id, self._stack.assembly.control.dry_run(dry_run_id).shadow_id)
        elif course.kept:
            self._stack.call("discard_dry_run", {"dry_run_id": dry_run_id})
            self._shared = ""

    def _course(self, entry: Entry, statements: Iterable[str], dry_run_id: str) -> Course:
        course = Course()
        params = list(entry.params)
        for text in statements:
            if entry.surface == "shadow":
                asked = self._stack.call("query_shadow", {"dry_run_id": dry_run_id, "sql": text, "params": params})
                course.executed |= not asked.refused
                if entry.expected == "allowed":  # what the model asks is answered; it is no step
                    course.answers.append(asked)
                    course.kept += not asked.refused
                    continue
                course.answers.append(asked)
            step = {"dry_run_id": dry_run_id, "sql": text, "reason": "an entry of the corpus", "params": params}
            answer = self._stack.call("run_statement", step)
            course.answers.append(answer)
            course.executed |= not answer.refused
            course.kept += not answer.refused
            if answer.refused:
                break
        if entry.surface != "shadow" and course.kept:
            self._to_the_end(course, dry_run_id)
        return course

    def _to_the_end(self, course: Course, dry_run_id: str) -> None:
        """Proposal, a person's yes, replay."""
        desk = self._stack.assembly.desk
        course.recorded = [(s.text, str(s.row_count)) for s in desk.statements(REP, dry_run_id)]
        answer = self._stack.call("propose", {"dry_run_id": dry_run_id})
        course.answers.append(answer)
        course.unconfirmed = self._stack.rows()
        if answer.refused:
            return
        proposal = desk.proposal(PERSON, str(answer.data["id"]))
        course.proposed = proposal.diff
        try:
            desk.confirm(PERSON, proposal.id, proposal.digest, proposal.rows)
            course.applied = True
        except EXPLAINED as error:
            course.replay_refused = str(error)
            course.replay_answers.append(str(error))
        status = self._stack.call("proposal_status", {"proposal_id": proposal.id})
        course.replay_answers.append(status.text)

    def _compared(self, entry: Entry) -> tuple[list[str], Course]:
        """Both sides in turn, each on a dry run of its own; a stranger's fact shows where they are told apart."""
        told: list[str] = []
        found: list[str] = []
        courses = []
        for text in entry.statements:
            dry_run_id = self._stack.start()
            filled = entry.filled(self._stack.places(dry_run_id))
            before = picture(self._stack, dry_run_id)
            course = self._course(filled, [text], dry_run_id)
            case = Case(
                entry=filled, course=course, before=before, after=picture(self._stack, dry_run_id), stack=self._stack,
                dry_run_id=dry_run_id,
            )  # fmt: skip
            found += breaches(case)
            told.append(_shape(course, text))
            courses.append(course)
            self._clear(dry_run_id, course, shared=False)
        if "indistinguishable_outcome" in entry.checks and told[0] != told[1] and not entry.known_limit:
            found.append("indistinguishable_outcome")
        worst = max(courses, key=lambda course: course.refused)
        return sorted(set(found)), worst


def _shape(course: Course, sent: str) -> str:
    """What was told without what the two sides differ in anyhow: their own literals, ids, times and digests."""
    texts = [f"{a.refused} {_row_count(a)} {a.text if a.refused else ''}" for a in course.answers]
    text = "\n".join([*texts, course.replay_refused, str(course.applied)])
    for literal in sorted(set(re.findall(r"'([^']*)'|\b(\d{2,})\b", sent)), key=lambda pair: -len("".join(pair))):
        text = text.replace("".join(literal), "…") if "".join(literal) else text
    return re.sub(r"\b(dr|pr)_\w+|\d{4}-\d\d-\d\d[ T][\d:.+]+|[0-9a-f]{16,}|\b\d+\b", "…", text)


def _row_count(answer: Answer) -> object:
    return answer.data.get("step", {}).get("row_count") if answer.data else None
