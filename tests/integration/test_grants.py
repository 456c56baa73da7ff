"""Every right that our roles hold, to the letter: one more or one less is a change that somebody has to write here."""

from collections.abc import Sequence

import psycopg

from mcp_server.install import APPLIER, READER
from shadow.embedded import EmbeddedServer
from shadow.fence import FenceRules
from shadow.masking import masked_schemas
from shadow.needs import DELETE, READ, WRITE
from tests.control import migrated
from tests.lifecycle import Lifecycle, installed
from tests.postgres import MakeDatabase

APP = (
    "CREATE TABLE tenants(id int PRIMARY KEY, name text NOT NULL); INSERT INTO tenants VALUES (1, 'a');"
    "CREATE TABLE notes(id serial PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants, body text);"
    "CREATE TABLE secrets(k text PRIMARY KEY);"
)
#: What is granted where, by grantee ('' is PUBLIC), without what the owner has and what Postgres gives everybody.
_HELD = r"""
SELECT what || ' ' || name || ': ' || string_agg(privilege, ', ' ORDER BY privilege)
FROM (
  SELECT 'database' AS what, 'this' AS name, d.datdba AS owner, a.* FROM pg_database d, aclexplode(d.datacl) a
    WHERE d.datname = current_database()
  UNION ALL SELECT 'schema', n.nspname, n.nspowner, a.* FROM pg_namespace n, aclexplode(n.nspacl) a
    WHERE n.nspname !~ '^pg_|information_schema'
  UNION ALL SELECT CASE c.relkind WHEN 'S' THEN 'sequence' WHEN 'v' THEN 'view' ELSE 'table' END,
    n.nspname || '.' || c.relname, c.relowner, a.* FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
    aclexplode(c.relacl) a WHERE n.nspname !~ '^pg_|information_schema'
  UNION ALL SELECT 'columns of', n.nspname || '.' || c.relname || '.' || t.attname, c.relowner, a.*
    FROM pg_attribute t JOIN pg_class c ON c.oid = t.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace,
    aclexplode(t.attacl) a WHERE n.nspname !~ '^pg_|information_schema'
  UNION ALL SELECT 'function', n.nspname || '.' || p.proname, p.proowner, a.*
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace,
    aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
    WHERE n.nspname = ANY(%(ours)s)
  UNION ALL SELECT 'later', n.nspname || ' ' || d.defaclobjtype::text, d.defaclrole, a.* FROM pg_default_acl d
    JOIN pg_namespace n ON n.oid = d.defaclnamespace, aclexplode(d.defaclacl) a
) held(what, name, owner, grantor, grantee, privilege, grantable)
WHERE grantee <> owner AND coalesce((SELECT rolname FROM pg_roles WHERE oid = grantee), '') = %(role)s
GROUP BY what, name ORDER BY 1
"""


def held(url: str, role: str, ours: Sequence[str] = ()) -> list[str]:
    with psycopg.connect(url) as conn:
        return [str(line) for (line,) in conn.execute(_HELD, {"role": role, "ours": list(ours)}).fetchall()]


def lines(text: str) -> list[str]:
    return sorted(line.strip() for line in text.strip().splitlines())


def test_production_gives_reader_and_applier_this_and_no_more(production_database: MakeDatabase) -> None:
    url = production_database(APP)
    installed(url, FenceRules(root="tenants"))
    assert held(url, READER) == lines("""
        database this: CONNECT
        later public r: SELECT
        schema public: USAGE
        schema shadowdesk: USAGE
        sequence public.notes_id_seq: SELECT, USAGE
        table public.notes: SELECT
        table public.secrets: SELECT
        table public.tenants: SELECT
        table shadowdesk.receipts: SELECT
    """)
    assert held(url, APPLIER) == lines("""
        database this: CONNECT, CREATE
        later public r: DELETE, INSERT, SELECT, UPDATE
        schema public: USAGE
        schema shadowdesk: USAGE
        sequence public.notes_id_seq: SELECT, USAGE
        table public.notes: DELETE, INSERT, SELECT, UPDATE
        table public.secrets: DELETE, INSERT, SELECT, UPDATE
        table public.tenants: DELETE, INSERT, SELECT, UPDATE
        table shadowdesk.receipts: INSERT, SELECT
    """)


#: Columns of the control database that its role may change; everything else is written once.
CHANGED = {
    "confirmations": "used_at withdrawn_at",
    "dry_runs": "base_at discarded_reason expires_at fence_hash mirror_version shadow_id snapshot_id state",
    "escalations": "answered_at answered_by comment verdict",
    "login_links": "used_at",
    "personal_tokens": "revoked_at revoked_by",
    "proposals": "outcome_message receipt state",
    "statements": "undone_at",
}


def test_the_control_database_gives_its_two_roles_this_and_no_more(database: MakeDatabase) -> None:
    url = migrated(database()).owner
    columns = [f"columns of control.{t}.{c}: UPDATE" for t, names in CHANGED.items() for c in names.split()]
    assert held(url, "shadowdesk_control") == sorted([*columns, *lines("""
        schema control: USAGE
        table control.calls: INSERT, SELECT, UPDATE
        table control.confirmations: INSERT, SELECT
        table control.dry_runs: INSERT, SELECT
        table control.escalations: INSERT, SELECT
        table control.login_links: DELETE, INSERT, SELECT
        table control.mask_secret: SELECT
        table control.page_sessions: DELETE, INSERT, SELECT
        table control.personal_tokens: INSERT, SELECT
        table control.proposal_rows: INSERT, SELECT
        table control.proposal_statements: INSERT, SELECT
        table control.proposals: INSERT, SELECT
        table control.statements: INSERT, SELECT
    """)])  # fmt: skip
    assert held(url, "shadowdesk_audit") == lines("""
        columns of audit.events.call_id: INSERT
        columns of audit.events.data: INSERT
        columns of audit.events.dry_run_id: INSERT
        columns of audit.events.kind: INSERT
        schema audit: USAGE
        table audit.events: SELECT
    """)
    assert held(url, "") == ["schema public: USAGE"]


def test_a_shadows_role_holds_what_is_loaded_and_people_who_look_hold_its_views(
    production_database: MakeDatabase, postgres_server: EmbeddedServer
) -> None:
    settings = installed(production_database(APP), FenceRules(root="tenants"))
    life = Lifecycle(settings, postgres_server, "1")
    try:
        role, url = life.shadow.surface, life.sandbox.owner_url(life.shadow.id)
        always = lines(f"""
            database this: CONNECT
            function shadowdesk.begin_rehearsal: EXECUTE
            function shadowdesk.begin_step: EXECUTE
            function shadowdesk.draw: EXECUTE
            function shadowdesk.end_rehearsal: EXECUTE
            function shadowdesk.finish_step: EXECUTE
            schema {role}: USAGE
            schema public: USAGE
            schema shadowdesk: USAGE
        """)
        assert held(url, role, ["shadowdesk"]) == always
        for level, rights in (
            (READ, "SELECT"),
            (WRITE, "INSERT, SELECT, UPDATE"),
            (DELETE, "DELETE, INSERT, SELECT, UPDATE"),
        ):
            life.shadow.ensure({"notes": level})
            loaded = [f"table public.notes: {rights}", f"view {role}.notes: {rights}"]
            read = ["table public.tenants: SELECT", f"view {role}.tenants: SELECT"]
            drawn = ["sequence public.notes_id_seq: USAGE"] if level >= WRITE else []
            assert held(url, role, ["shadowdesk"]) == sorted([*always, *loaded, *read, *drawn])
        before = held(url, role, ["shadowdesk"])
        schema = masked_schemas(life.shadow, ["notes"], lambda _, column: column == "body", b"k" * 32)["notes"]
        masked = ["function shadowdesk.mask: EXECUTE", f"schema {schema}: USAGE", f"view {schema}.notes: SELECT"]
        assert held(url, role, ["shadowdesk"]) == sorted([*before, *masked])
        # capture's functions answer to triggers only, and the role may make none
        assert all(
            "shadowdesk.capture_" in line or line == "schema public: USAGE" for line in held(url, "", ["shadowdesk"])
        )
        inspector = psycopg.conninfo.conninfo_to_dict(life.sandbox.add_inspector(life.shadow.id, 5))
        assert held(url, str(inspector["user"]), ["shadowdesk"]) == lines(f"""
            database this: CONNECT
            schema {role}: USAGE
            view {role}.notes: SELECT
            view {role}.tenants: SELECT
        """)
        with psycopg.connect(postgres_server.owner_url) as conn:
            closed = (life.mirror, role, "postgres", "template1")
            for name in closed:
                public = conn.execute(
                    "SELECT count(*) FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a"
                    " WHERE d.datname = %s AND a.grantee = 0 AND a.privilege_type IN ('CONNECT', 'TEMPORARY')", (name,)
                ).fetchone()  # fmt: skip
                assert public == (0,), name
    finally:
        life.close()
