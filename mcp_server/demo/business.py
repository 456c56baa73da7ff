"""The demo's business: its SQL and the ids its stories are told with; read by the demo and by tests."""

from dataclasses import dataclass
from decimal import Decimal
from importlib.resources import files


@dataclass(frozen=True, kw_only=True)
class WrongSignatory:
    """A contract of `account_id` that carries a signatory of another account."""

    contract_id: int
    code: str
    account_id: int
    wrong_signatory_id: int
    right_signatory_id: int


@dataclass(frozen=True, kw_only=True)
class WrongEntity:
    """A contract filed under one account but signed by another's managing director.

    `invoice_ids` are all records that follow the contract to the right account.
    """

    contract_id: int
    code: str
    wrong_account_id: int
    right_account_id: int
    signatory_id: int
    invoice_ids: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class LooksWrong:
    """A contract whose total is right and looks wrong: two equal site lines and the agreed discount on both.

    Setting the quantity of `tempting_line_ids` to 0, one after the other ("a double entry", then "its stray
    credit"), moves the billing total by `step_deltas`, together `delta`.
    """

    contract_id: int
    code: str
    total: Decimal
    line_ids: tuple[int, ...]
    tempting_line_ids: tuple[int, int]
    step_deltas: tuple[Decimal, Decimal]
    delta: Decimal


@dataclass(frozen=True, kw_only=True)
class Stories:
    """The tenant the demo works for, one other tenant, and the three contracts its stories are about."""

    tenant_id: int
    tenant: str
    other_tenant_id: int
    wrong_signatory: WrongSignatory
    wrong_entity: WrongEntity
    looks_wrong: LooksWrong


#: True of every load of `business_sql()`: its rows are made in a fixed order, so its ids are too.
STORIES = Stories(
    tenant_id=1,
    tenant="Northwind Freight",
    other_tenant_id=2,
    wrong_signatory=WrongSignatory(
        contract_id=19, code="MSA-0007/1", account_id=19, wrong_signatory_id=31, right_signatory_id=19
    ),
    wrong_entity=WrongEntity(
        contract_id=154,
        code="MSA-0052/1",
        wrong_account_id=34,
        right_account_id=58,
        signatory_id=178,
        invoice_ids=(538, 539, 540),
    ),
    looks_wrong=LooksWrong(
        contract_id=358,
        code="MSA-0120/1",
        total=Decimal("108000.00"),
        line_ids=(11962, 11963, 11964),
        tempting_line_ids=(11963, 11964),
        step_deltas=(Decimal("-60000.00"), Decimal("12000.00")),
        delta=Decimal("-48000.00"),
    ),
)


def business_sql() -> str:
    """The whole business as one script for an empty database: tables, about 20,000 rows, triggers."""
    return files(__package__).joinpath("business.sql").read_text(encoding="utf-8")
