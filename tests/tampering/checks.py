"""What must hold after an entry was played: one function per name in the corpus' README."""

import re
from collections.abc import Callable

from tests.tampering.corpus import Entry
from tests.tampering.playing import Played, Side
from tests.tampering.production import OTHERS, Picture

SECRETS = re.compile(r"T[23]SECRET[\w-]*|APPSECRET[\w-]*")
#: Escape sequences, other controls, and signs that reorder text; a page's words hold spaces only.
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200e\u200f]")


def _others(picture: Picture) -> dict[tuple[str, str], str]:
    return {key: text for key, (tenant, text) in picture.items() if tenant in OTHERS or key[0] == "app_secrets"}


def _outputs(side: Side) -> str:
    return "\n".join(answer.words for answer in (*side.answers, *side.told, *side.replayed))


def _unleaked(played: Played) -> bool:
    for side in played.sides:
        sent = "\n".join(side.texts) + repr(played.entry.params)
        output = _outputs(side) + played.log
        if any(found not in sent for found in SECRETS.findall(output)):
            return False
        if any(re.search(canary, _where(side, canary)) for canary in map(_plain, played.entry.canaries)):
            return False
        replays = "\n".join(answer.words for answer in side.replayed)
        only = [c.removeprefix("replay:") for c in played.entry.canaries if c.startswith("replay:")]
        if any(re.search(canary, replays) for canary in only):
            return False
    return True


def _plain(canary: str) -> str:
    return r"(?!)" if canary.startswith("replay:") else canary


def _where(side: Side, canary: str) -> str:
    """The outputs without what the model itself has sent, which a refusal or a page may repeat."""
    output = _outputs(side)
    for text in side.texts:
        output = output.replace(text, "")
    return output


def _every(holds: Callable[[Side], bool]) -> Callable[[Played], bool]:
    return lambda played: all(holds(side) for side in played.sides)


def _atomic(side: Side) -> bool:
    return not side.changed or (side.applied and side.same_effect)


def _outcome(side: Side) -> list[object]:
    """What a rep can tell apart, without what differs from call to call."""
    found: list[object] = [
        (a.ok, a.value.get("step", {}).get("row_count"), a.value.get("rows"), None if a.ok else a.words)
        for a in side.answers
    ]
    found.append([(row.table, row.kind) for row in side.rows])
    found.append([(answer.ok, None if answer.ok else answer.words.split("Digest")[0]) for answer in side.replayed])
    return found


def _indistinguishable(played: Played) -> bool:
    shown = []
    for side in played.sides:
        text = repr(_outcome(side))
        own = {word for one in side.texts for word in re.findall(r"[\w-]+", one)}
        theirs = {w for other in played.sides for one in other.texts for w in re.findall(r"[\w-]+", one)}
        for word in sorted(own ^ (theirs & own) | _differing(played), key=len, reverse=True):
            text = re.sub(rf"(?<![\w-]){re.escape(word)}(?![\w-])", "·", text)
        shown.append(re.sub(r"(dr|pr)_[a-z2-7]{12}|[0-9a-f]{64}|\d{4}-\d\d-\d\d[T ][\d:.+]+", "·", text))
    return len(set(shown)) == 1


def _differing(played: Played) -> set[str]:
    words = [{word for one in side.texts for word in re.findall(r"[\w-]+", one)} for side in played.sides]
    return set.union(*words) - set.intersection(*words)


def _limited(played: Played) -> bool:
    """A named limit of PostgreSQL ends in a clear error: what happened, what did not, what to do."""
    ends = [a for side in played.sides for a in (*side.answers, *side.told, *side.replayed) if not a.ok]
    return all(len(re.findall(r"[.?](\s|$)", answer.words)) >= 3 for answer in ends)


def _written(side: Side) -> bool:
    """A statement that changed rows is kept as a step; one that was refused changed none."""
    return all(not answer.ok or text in side.recorded for text, answer in zip(side.texts, side.answers, strict=True))


def _verbatim(played: Played) -> bool:
    texts = [p for p in played.entry.params if isinstance(p, str)]
    for side in played.sides:
        cells = [cell.after for row in side.rows for cell in row.cells]
        if side.applied and not (side.same_effect and all(text in cells for text in texts)):
            return False
    return True


CHECKS: dict[str, Callable[[Played], bool]] = {
    "prod_unchanged_before_confirm": _every(lambda s: s.before == s.unconfirmed),
    "other_tenants_unchanged": _every(lambda s: s.before is s.after or _others(s.before) == _others(s.after)),
    "other_shadow_unchanged": lambda p: p.other_shadow_same,
    "catalog_unchanged": lambda p: p.definitions_same,
    "roles_unchanged": lambda p: p.definitions_same and p.roles_same,
    "session_state_unchanged": lambda p: p.session_same,
    "connection_usable": lambda p: p.usable,
    "no_other_tenant_value_in_output": _unleaked,
    "finished_within_4s": _every(lambda s: all(a.seconds < 4 for a in (*s.answers, *s.told, *s.replayed))),
    "bystander_dml_not_blocked": lambda p: not p.blocked,
    "victim_session_alive": lambda p: p.victims_alive,
    "output_under_1MB": _every(lambda s: len(_outputs(s)) < 1_000_000),
    "gate_process_survives": lambda p: p.gate_lives,
    "no_notification_delivered": lambda p: not p.notified,
    "no_cross_tenant_reference": _every(lambda s: s.crossing == 0),
    "succeeds_in_shadow": _every(lambda s: all(a.ok for a in s.answers)),
    "succeeds_on_replay": lambda p: p.entry.surface == "shadow" or all(s.applied for s in p.sides),
    "same_effect": _every(lambda s: s.same_effect if s.applied else not s.changed),
    "same_effect_or_rolled_back": _every(_atomic),
    "value_stored_verbatim": _verbatim,
    "recorded_text_equals_executed_text": _every(lambda s: all(text in s.texts for text in s.recorded)),
    "recorded_as_write": _every(_written),
    "replay_is_atomic": _every(_atomic),
    "indistinguishable_outcome": _indistinguishable,
    "no_non_finite_value_applied": _every(_atomic),
    "diff_reader_survives": _every(lambda s: s.reader_survived),
    "terminal_safe_output": _every(
        lambda s: not any(CONTROLS.search(a.text) for a in (*s.answers, *s.told, *s.replayed))
    ),
}


def broken(played: Played) -> list[str]:
    """Names of the checks that do not hold; a name nobody knows is one of them, so that it is not overlooked."""
    entry = played.entry
    if not played.sent:
        return []
    if entry.known_limit:
        names = [c for c in entry.checks if c in ("no_other_tenant_value_in_output", "other_tenants_unchanged")]
        return [c for c in names if not CHECKS[c](played)] + ([] if _limited(played) else ["clear_error"])
    found = [name for name in entry.checks if name not in CHECKS or not CHECKS[name](played)]
    if entry.exec_is_breach and any(a.ran for side in played.sides for a in side.answers):
        found.append("exec_is_breach")
    if entry.expected == "reject" and not refused(entry, played):
        found.append("refused")
    return found


def refused(entry: Entry, played: Played) -> bool:
    """Of a dry run's steps one is refused, of two statements held against each other both."""
    return all(any(not answer.ok for answer in side.answers) for side in played.sides)
