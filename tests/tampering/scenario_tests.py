"""Which test shows each scenario of scenarios.jsonl, or why the part that it names does not exist here."""

_HTML = "tests/acceptance/test_pages_review.py::test_a_hostile_value_is_text_with_its_hidden_characters_visible"
_RUNS = "tests/acceptance/test_pages_browser.py::test_a_hostile_value_runs_nothing_even_with_scripts_on"
_TEXT = "tests/unit/test_differ_text.py::test_a_hostile_value_loses_every_character_that_acts"
_FENCED = "tests/unit/test_differ_text.py::test_a_hostile_value_stays_inside_its_backticks"
_PLAYED = "tests/tampering/test_scenarios.py::test_a_poisoned_value_is_only_ever_shown"
_STORE = "tests/integration/test_control_store.py"
_TRAIL = "tests/integration/test_audit_store.py"

#: Scenario → tests that show it.
TESTS: dict[str, tuple[str, ...]] = {
    **{f"poisoned_row-{n:02}": (_PLAYED, _HTML, _RUNS, _TEXT, _FENCED) for n in range(1, 17)},
    "confirm-01": ("tests/acceptance/test_pages_decide.py::test_another_digest_is_refused_and_said_so",),
    "confirm-02": (
        "tests/acceptance/test_pages_decide.py::test_typing_the_rows_confirms_once_and_shows_the_receipt",
        "tests/integration/test_replay.py::test_a_second_replay_returns_the_first_receipt_and_runs_nothing",
    ),
    "confirm-03": (
        "tests/acceptance/test_pages_login.py::test_a_session_of_one_person_cannot_send_the_form_of_another",
    ),
    "confirm-04": (
        "tests/acceptance/test_pages_login.py::test_a_proposal_one_may_not_see_looks_like_one_that_is_not_there",
        f"{_STORE}::test_a_confirmation_of_something_else_is_refused",
    ),
    "confirm-05": ("tests/acceptance/test_confirm_policy.py::test_a_changed_diff_voids_what_was_seen",),
    "confirm-06": (f"{_STORE}::test_a_confirmation_that_is_over_is_not_used",),
    "confirm-07": ("tests/acceptance/test_fix.py::test_nothing_a_tool_says_opens_the_page",),
    "confirm-08": (
        "tests/acceptance/test_elicitation.py::test_a_host_that_accepts_everything_leaves_production_alone",
    ),
    "confirm-09": (f"{_STORE}::test_of_many_that_use_a_confirmation_one_begins_the_replay",),
    "confirm-10": ("tests/integration/test_replay.py::test_a_changed_row_is_drift_and_nothing_is_applied",),
    "confirm-11": ("tests/acceptance/test_pages_decide.py::test_a_rejection_ends_it_and_shows_why",),
    "confirm-12": ("tests/tampering/test_scenarios.py::test_a_digest_with_one_sign_changed_confirms_nothing",),
    "confirm-13": ("tests/acceptance/test_faults.py::test_a_confirmed_proposal_is_applied_once_and_never_lost",),
    "confirm-14": ("tests/acceptance/test_faults.py::test_a_confirmed_proposal_is_applied_once_and_never_lost",),
    "audit-01": (
        f"{_TRAIL}::test_the_servers_role_can_append_and_read_only",
        f"{_TRAIL}::test_triggers_refuse_the_owner_too",
    ),
    "audit-02": ("tests/unit/test_audit_export.py::test_tampering_is_found_and_located",),
    "audit-03": (f"{_TRAIL}::test_a_cut_tail_is_found_by_a_checkpoint",),
    "audit-04": (
        f"{_TRAIL}::test_changed_content_needs_a_changed_hash_and_then_the_next_event_does_not_follow",
        "tests/unit/test_audit_export.py::test_a_chain_rewritten_and_signed_with_another_key_is_found_by_who_knows_the_key",
    ),
    "audit-05": (
        "tests/unit/test_audit_export.py::test_a_cut_export_with_an_older_checkpoint_is_found_by_a_checkpoint_kept_elsewhere",
    ),
    "audit-06": (f"{_TRAIL}::test_eight_writers_at_once_make_one_chain",),
    "audit-07": (f"{_TRAIL}::test_numbers_and_hashes_given_by_the_owner_are_not_taken",),
    "audit-08": (f"{_TRAIL}::test_without_the_right_to_insert_the_call_is_refused_and_no_value_is_repeated",),
    "web-01": (
        "tests/acceptance/test_pages_decide.py::test_a_form_from_another_origin_does_nothing",
        "tests/acceptance/test_pages_decide.py::test_a_form_without_the_session_s_token_does_nothing_and_is_audited",
    ),
    "web-02": ("tests/acceptance/test_pages_decide.py::test_a_decision_cannot_be_made_by_a_get",),
    "web-03": ("tests/acceptance/test_pages_login.py::test_every_answer_carries_the_security_headers",),
    "web-04": (
        "tests/acceptance/test_pages_login.py::test_a_proposal_one_may_not_see_looks_like_one_that_is_not_there",
    ),
    "web-05": (_RUNS, "tests/acceptance/test_pages_login.py::test_every_answer_carries_the_security_headers"),
    "web-06": (
        "tests/acceptance/test_hardening_pages.py::test_no_other_name_reaches_the_pages",
        "tests/acceptance/test_mcp_http.py::test_other_names_and_origins_are_turned_away",
    ),
    "lifecycle-01": ("tests/integration/test_shadow.py::test_expired_shadows_are_reaped_by_anybody",),
    "lifecycle-06": ("tests/integration/test_shadow.py::test_dropping_leaves_no_database_and_no_role",),
}
#: Scenario → why there is nothing of the kind to test, or what is tested of it elsewhere.
REASONS: dict[str, str] = {
    "web-07": "/mcp is served without sessions (stateless HTTP): there is no session id to guess or reuse; every"
    " request is its bearer token's person (tests/acceptance/test_mcp_http.py).",
    "web-08": "a rep may serve several tenants, so start_dry_run takes the tenant by its key; which tenants a role may"
    " see is decided by the role of the login (tests/acceptance/test_roles.py), never by the argument.",
    "lifecycle-02": "the sandbox' limit of shadows is SandboxLimits.max_shadows (QuotaExceeded); open dry runs per"
    " rep belong to the limits, not to the walls.",
    "lifecycle-03": "a call runs to its end when its client goes away, by design: what a step did is either recorded"
    " or taken back; statement_timeout bounds it.",
    "lifecycle-04": "replays share no pooled connection: each opens a session of its own and closes it.",
    "lifecycle-05": "there is no binding row: the tenant's key is a literal in views that live for one transaction.",
}
