"""`make sharp` finds every rule of the gate and every grant; a sample of each is noticed, and what is not is named."""

import ast

from tests.tampering.mutants import ROOT, Mutant, grants, reason, rules
from tests.tampering.sharp import sharp


def test_every_rule_and_every_grant_is_on_the_list_and_each_change_is_still_a_program() -> None:
    made = [*rules(), *grants()]
    assert sum(m.kind == "gate" for m in made) >= 130
    assert sum(m.kind == "grants" for m in made) >= 80
    assert len({(m.path, m.start, m.instead, m.name) for m in made}) == len(made)
    for mutant in made:
        source = (ROOT / mutant.path).read_bytes()
        assert mutant.applied(source) != source
        if mutant.path.endswith(".py"):
            ast.parse(mutant.applied(source))
    assert sum(bool(reason(m)) for m in made) <= 6


def test_a_missing_rule_and_a_grant_too_wide_are_noticed_and_a_comment_is_not() -> None:
    [rule] = [m for m in rules() if m.path.endswith("gate_writes.py") and "_check_conflict" in m.name]
    receipts = [m for m in grants() if m.path.endswith("receipts.sql") and "widen GRANT SELECT, INSERT" in m.name]
    source = (ROOT / "shadow/gate_writes.py").read_bytes()
    place = source.index(b"# noqa")
    nothing = Mutant(
        kind="gate", path="shadow/gate_writes.py", name="a comment", start=place, end=place + 1, instead=b"# "
    )
    report = sharp([rule, *receipts, nothing])
    assert (report.mutants, report.noticed, report.survivors) == (3, 2, ("a comment",))
