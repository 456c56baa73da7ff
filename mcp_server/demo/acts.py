"""The demo's seven acts, each a short story told through the real client, the real pages and the real production."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mcp_server.demo.business import STORIES
from mcp_server.demo.person import PageRefused
from mcp_server.demo.stage import Claude, DemoFailed, Stage
from mcp_server.demo.telling import Telling


class Acts:
    """Plays the acts in order and counts how they ended; a promise that does not hold raises DemoFailed."""

    def __init__(self, stage: Stage, claude: Claude, telling: Telling) -> None:
        self._stage = stage
        self._claude = claude
        self._tell = telling
        self._rep = stage.browser("rep")
        self.applied = 0
        self.rejected = 0
        self.drifted = 0
        self._first_dry_run = ""

    def play(self) -> str:
        """All acts; the last line of the demo."""
        self.wrong_signatory()
        self.wrong_entity()
        self.no_where()
        self.war_story()
        self.drift()
        recording = self.recording()
        audit = self.audit()
        return (
            f"demo: {self.applied} applied, {self.rejected} rejected, {self.drifted} drifted,"
            f" recording {recording}, audit {audit}"
        )

    # (a) ------------------------------------------------------------------------------------------------------

    def wrong_signatory(self) -> None:
        """A wrong signatory: dry run, diff, proposal, the rep's confirm on the page, replay, receipt."""
        story = STORIES.wrong_signatory
        self._tell.act("A wrong signatory", f"“Contract {story.code} carries the wrong signatory, please correct it.”")
        run = self._start("Contract carries a signatory of another account; customer asked to correct it")
        self._first_dry_run = run["id"]
        self._claude.call(
            "correct_signatory_on_contract",
            contract_id=str(story.contract_id),
            new_signatory_id=str(story.right_signatory_id),
            reason="the account's own signatory signed it",
            dry_run_id=run["id"],
        )
        before = self._signatory(story.contract_id)
        proposal = self._propose(run["id"])
        self._hold(self._signatory(story.contract_id) == before, "production changed before anybody confirmed")
        self._confirm(proposal)
        self._hold(self._signatory(story.contract_id) == story.right_signatory_id, "the signatory was not corrected")
        receipt = self._stage.production("SELECT proposal_id, rows FROM shadowdesk.receipts")
        self._hold(receipt == [(proposal["id"], proposal["rows"])], "production holds no receipt")
        self._tell.check("Production, asked over a connection of its own, shows the new signatory and the receipt.")

    def _signatory(self, contract_id: int) -> int:
        return int(self._stage.production(f"SELECT signatory_id FROM contracts WHERE id = {contract_id}")[0][0])

    # (b) ------------------------------------------------------------------------------------------------------

    def wrong_entity(self) -> None:
        """A contract filed under the wrong account: several steps, one undone, exactly three downstream records."""
        story = STORIES.wrong_entity
        self._tell.act(
            "Signed by the wrong entity", f"“{story.code} belongs to our other company, with all its papers.”"
        )
        run = self._start("Contract was signed by the wrong entity: move it and what hangs on it")
        self._run(
            run["id"], f"UPDATE contracts SET account_id = {story.right_account_id} WHERE id = {story.contract_id}"
        )
        wrong = self._run(run["id"], f"UPDATE invoices SET account_id = {story.right_account_id}")
        self._tell.say(f"Step 2 forgot its WHERE: the diff shows {wrong['row_count']} invoices. Undone.")
        self._claude.call("undo_statement", dry_run_id=run["id"], to_step=1)
        moved = self._run(
            run["id"],
            f"UPDATE invoices SET account_id = {story.right_account_id} WHERE contract_id = {story.contract_id}",
        )
        self._hold(moved["row_count"] == len(story.invoice_ids), "not exactly three downstream records")
        self._confirm(self._propose(run["id"]))
        rows = self._stage.production(
            f"SELECT id FROM invoices WHERE account_id = {story.right_account_id} AND contract_id = {story.contract_id}"
        )
        self._hold(sorted(row[0] for row in rows) == sorted(story.invoice_ids), "the invoices did not follow")
        self._tell.check("The contract and exactly three invoices moved; the undone step left no trace.")

    # (c) ------------------------------------------------------------------------------------------------------

    def no_where(self) -> None:
        """An UPDATE without WHERE: only this tenant's rows can change."""
        self._tell.act(
            "UPDATE without WHERE", "“Our tax code changed, set it everywhere.” The model forgets the WHERE."
        )
        others = self._tax_codes("<>")
        run = self._start("Customer's tax code changed: set it on all their line items")
        step = self._run(run["id"], "UPDATE line_items SET tax_code = 'T-DEMO'")
        self._tell.say(f"{step['row_count']} rows of this tenant change in the shadow; no other tenant's row is there.")
        self._confirm(self._propose(run["id"]))
        self._hold(self._tax_codes("<>") == others, "another tenant's rows changed")
        self._hold(self._tax_codes("=") == [("T-DEMO", step["row_count"])], "not all of this tenant's rows changed")
        self._tell.check("Every line item of this tenant changed, and not one of any other tenant.")

    def _tax_codes(self, comparison: str) -> list[tuple[Any, ...]]:
        return self._stage.production(
            "SELECT l.tax_code, count(*) FROM line_items l JOIN contracts c ON c.id = l.contract_id"
            f" WHERE c.tenant_id {comparison} {STORIES.tenant_id} GROUP BY 1 ORDER BY 1"
        )

    # (d) ------------------------------------------------------------------------------------------------------

    def war_story(self) -> None:
        """The −$48,000 sequence: measure, policy, escalation, an engineer's no; production never moved."""
        story = STORIES.looks_wrong
        self._tell.act(
            "−$48,000", f"“Fix the line items on {story.code}, the totals look wrong.” A plausible sequence:"
        )
        before = self._money()
        run = self._start("Fix the line items on the contract, the totals look wrong")
        for line, why in zip(story.tempting_line_ids, ("a double entry", "its stray credit"), strict=True):
            self._claude.call(
                "adjust_line_item", contract_id=str(story.contract_id), line_item_id=str(line), qty="0",
                reason=f"looks like {why}", dry_run_id=run["id"],
            )  # fmt: skip
        proposal = self._propose(run["id"])
        delta = next(m for m in proposal["diff"]["measures"] if m["name"] == "billing_total")["delta"]
        self._hold(Decimal(delta) == story.delta, f"the billing total moves by {delta}")
        self._hold(proposal["decision"] == "engineer", "policy let the rep decide")
        try:
            self._rep.confirm(proposal["review_path"], proposal["rows"])
        except PageRefused:
            self._tell.say(f"Billing total {delta} USD: policy wants an engineer, the page refuses the rep.")
        else:
            raise DemoFailed("the rep could confirm what policy gives to an engineer")
        self._claude.call("escalate", dry_run_id=run["id"], question="Is the second site line really a double entry?")
        engineer = self._stage.browser("engineer")
        engineer.reject(proposal["review_path"], "Two sites, agreed in the terms: the total is right. Leave it.")
        engineer.close()
        status = self._claude.call("proposal_status", proposal_id=proposal["id"])
        self._hold(
            status["state"] == "rejected" and "Two sites" in (status["comment"] or ""), "no rejection to be seen"
        )
        self._tell.say(f"The engineer looked at the shadow and wrote: {status['comment']}")
        self._hold(self._money() == before, "money moved on production")
        self.rejected += 1
        self._tell.check("The rep reads the answer in the chat. Nothing moved on production.")

    def _money(self) -> list[tuple[Any, ...]]:
        return self._stage.production("SELECT sum(qty * unit_price), count(*) FROM line_items")

    # (e) ------------------------------------------------------------------------------------------------------

    def drift(self) -> None:
        """Production changes between dry run and confirm: nothing is applied."""
        story = STORIES.wrong_signatory
        self._tell.act("Somebody was faster", "While the rep reads the diff, the app itself changes the same contract.")
        run = self._start("Put the earlier signatory back, the customer changed their mind")
        self._run(
            run["id"],
            f"UPDATE contracts SET signatory_id = {story.wrong_signatory_id} WHERE id = {story.contract_id}",
        )
        proposal = self._propose(run["id"])
        self._stage.change_production(
            f"UPDATE contracts SET terms = terms || '{{\"renewed\": true}}' WHERE id = {story.contract_id}"
        )
        try:
            self._rep.confirm(proposal["review_path"], proposal["rows"])
        except PageRefused as refused:
            self._hold("changed since the dry run" in refused.words, f"the page said: {refused.words}")
        else:
            raise DemoFailed("a drifted proposal was applied")
        status = self._claude.call("proposal_status", proposal_id=proposal["id"])
        self._hold(status["state"] == "drifted", f"the proposal is {status['state']}")
        self._hold(self._signatory(story.contract_id) == story.right_signatory_id, "the row was changed all the same")
        self.drifted += 1
        self._tell.check("Drifted: the page says which cells changed, and nothing was applied.")

    # (f) ------------------------------------------------------------------------------------------------------

    def recording(self) -> str:
        """The first fix as a regression test: equal on an empty database, different once a trigger changed."""
        self._tell.act("QA runs it again", "The first fix, exported with its rows, runs on an empty Postgres.")
        file = self._stage.folder / "signatory.recording.json"
        config = ["--config", str(self._stage.config), "--person", "engineer"]
        done = self._stage.command(
            "recording", "export", self._first_dry_run, "-o", str(file), "--with-rows", *config, person="engineer"
        )
        self._hold(done.returncode == 0, f"the export failed: {done.stderr[-400:]}")
        recorded = json.loads(file.read_text())["expected"]["total_rows"]
        self._hold(recorded > 0, "the recording expects no change at all")
        same = self._stage.command("recording", "run", str(file))
        self._hold(same.returncode == 0, f"the recording differs: {same.stdout[-400:]} {same.stderr[-400:]}")
        self._tell.say("Equal: same rows, same cells.")
        changed = self._stage.command("recording", "run", str(file), "--schema", str(self._changed_schema(file)))
        words = (changed.stderr + changed.stdout).strip()
        self._hold(changed.returncode == 1 and "contracts" in words, f"a changed trigger went unnoticed: {words}")
        self._tell.say(f"With a release that changes one trigger it fails and says where: {words.splitlines()[0]}")
        return "equal"

    def _changed_schema(self, file: Path) -> Path:
        definitions = json.loads(file.read_text())["definitions"]
        extra = (
            "\nCREATE FUNCTION public.release_note() RETURNS trigger LANGUAGE plpgsql AS $f$BEGIN"
            " NEW.code := NEW.code || '!'; RETURN NEW; END$f$;"
            "\nCREATE TRIGGER zz_release BEFORE UPDATE ON public.contracts"
            " FOR EACH ROW EXECUTE FUNCTION public.release_note();\n"
        )
        schema = self._stage.folder / "next-release.sql"
        schema.write_text(definitions + extra)
        return schema

    # (g) ------------------------------------------------------------------------------------------------------

    def audit(self) -> str:
        """The audit chain verifies; a copy with one changed byte does not."""
        self._tell.act("The audit trail", "Every call is in it: reads, refusals and page clicks included.")
        export = self._stage.folder / "audit.jsonl"
        config = ["--config", str(self._stage.config), "--person", "engineer"]
        live = self._stage.command("audit", "verify", "--config", str(self._stage.config))
        self._hold(live.returncode == 0, f"the chain does not verify: {live.stdout} {live.stderr}")
        done = self._stage.command("audit", "export", "-o", str(export), *config)
        self._hold(done.returncode == 0, f"the export failed: {done.stderr}")
        self._hold(self._stage.command("audit", "verify", str(export)).returncode == 0, "the export does not verify")
        tampered = self._stage.folder / "tampered.jsonl"
        tampered.write_bytes(export.read_bytes().replace(b"Two sites", b"Ten sites", 1))
        broken = self._stage.command("audit", "verify", str(tampered))
        self._hold(broken.returncode == 1, "a tampered copy verified")
        self._tell.check("The chain verifies, live and exported; a copy with one word changed does not.")
        return "verified"

    # ----------------------------------------------------------------------------------------------------------

    def _start(self, request: str) -> dict[str, Any]:
        started = self._claude.call(
            "start_dry_run", tenant=str(STORIES.tenant_id), request=request, purpose="what-if fix on a customer call"
        )
        return dict(started["dry_run"])

    def _run(self, dry_run_id: str, sql: str) -> dict[str, Any]:
        made = self._claude.call("run_statement", dry_run_id=dry_run_id, sql=sql, reason="as the customer asked")
        return dict(made["step"])

    def _propose(self, dry_run_id: str) -> dict[str, Any]:
        proposal = self._claude.call("propose", dry_run_id=dry_run_id)
        proposal["review_path"] = urlsplit(proposal["review_url"]).path
        self._tell.diff(proposal)
        return proposal

    def _confirm(self, proposal: dict[str, Any]) -> None:
        self._rep.confirm(proposal["review_path"], proposal["rows"])
        status = self._claude.call("proposal_status", proposal_id=proposal["id"])
        self._hold(status["state"] == "applied", f"the proposal is {status['state']}: {status['outcome_message']}")
        self.applied += 1
        self._tell.say(f"The rep read the page, typed {proposal['rows']} and confirmed: applied.")

    def _hold(self, promise: bool, otherwise: str) -> None:
        if not promise:
            raise DemoFailed(otherwise)
