"""No function of pg_catalog that the gate lets through may sense where it runs: user, schema, server, settings, catalog."""

import re

import pytest

from shadow.errors import StatementRefused
from shadow.gate_names import check_function
from tests.tampering.surface import functions, surface

SENSING = re.compile(
    r"^(pg_|has_|current_|session_|system_|inet_(client|server)_|txid_|to_reg|lo_|set_config|getdatabase|version$|"
    r"(icu_)?unicode_version|row_security|obj_description|shobj_|col_description|format_type|nextval|currval|lastval|"
    r"setval|random|query_to_|table_to_|schema_to_|database_to_|cursor_to_|dblink)"
)


def passes(name: str) -> bool:
    try:
        check_function(name, surface())
    except StatementRefused:
        return False
    return True


@pytest.mark.parametrize("name", sorted(name for name in functions() if SENSING.match(name)))
def test_a_function_that_senses_its_surroundings_is_refused(name: str) -> None:
    assert not passes(name)


def test_no_volatile_function_passes_and_harmless_ones_do() -> None:
    volatile = [name for name, kind in functions().items() if kind == "v" and passes(name)]
    assert volatile == []
    assert passes("lower")
    assert passes("date_trunc")
