"""The names a statement may use: functions, types and operators (default deny), and why the others are refused.

Read by the gate's walk. A function must be listed here and be non-volatile on the server in every overload.
"""

from collections.abc import Iterable

from shadow.gate_text import refused, shown
from shadow.statement import Surface

#: Every function here depends on its arguments alone (or on settings the sessions pin): it answers alike on the
#: shadow and on production, and reads neither catalogs, files, sequences nor settings.
SAFE_FUNCTIONS = frozenset(
    """
    abs acos acosd acosh age any_value array_agg array_append array_cat array_dims array_length array_lower array_ndims
    array_position array_positions array_prepend array_remove array_replace array_reverse array_sort array_to_json
    array_to_string array_upper ascii asin asind asinh atan atan2 atan2d atand atanh avg bit_and bit_count bit_length
    bit_or bit_xor bool_and bool_or broadcast btrim cardinality casefold cbrt ceil ceiling char_length
    character_length chr concat concat_ws convert_from convert_to corr cos cosd cosh cot cotd count covar_pop
    covar_samp crc32 crc32c cume_dist date date_add date_bin date_part date_subtract date_trunc daterange decode
    degrees dense_rank div encode enum_first enum_last enum_range erf erfc every exp extract factorial family
    first_value floor format gcd generate_series generate_subscripts get_bit get_byte greatest host hostmask initcap
    int4range int8range isempty isfinite is_normalized json_agg json_agg_strict json_array_elements
    json_array_elements_text json_array_length json_build_array json_build_object json_each json_each_text
    json_extract_path json_extract_path_text json_object_agg json_object_keys json_strip_nulls json_typeof jsonb_agg
    jsonb_agg_strict jsonb_array_elements jsonb_array_elements_text jsonb_array_length jsonb_build_array
    jsonb_build_object jsonb_concat jsonb_delete jsonb_delete_path jsonb_each jsonb_each_text jsonb_exists
    jsonb_exists_all jsonb_exists_any jsonb_extract_path jsonb_extract_path_text jsonb_insert jsonb_object
    jsonb_object_agg jsonb_object_agg_strict jsonb_object_keys jsonb_pretty jsonb_set jsonb_set_lax
    jsonb_strip_nulls jsonb_typeof justify_days justify_hours justify_interval lag last_value lcm lead left length
    like_escape ln log log10 lower lower_inc lower_inf lpad ltrim make_date make_interval make_time make_timestamp
    make_timestamptz masklen max md5 min mod mode netmask network normalize nth_value ntile nullif num_nonnulls
    num_nulls numrange octet_length overlaps overlay parse_ident percent_rank percentile_cont percentile_disc pi
    position pow power quote_literal quote_nullable radians range_agg range_intersect_agg range_merge rank
    regexp_count regexp_instr regexp_like regexp_match regexp_matches regexp_replace regexp_split_to_array
    regexp_split_to_table regexp_substr regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope regr_sxx
    regr_sxy regr_syy repeat replace reverse right round row_number row_to_json rpad rtrim scale set_bit set_byte
    sha224 sha256 sha384 sha512 sign similar_to_escape sin sind sinh split_part sqrt starts_with stddev stddev_pop
    stddev_samp string_agg string_to_array string_to_table strpos substr substring sum tan tand tanh timezone to_bin
    to_char to_date to_hex to_json to_jsonb to_number to_oct to_timestamp translate trim_array trim_scale trunc
    tsrange tstzrange unistr unnest upper upper_inc upper_inf uuid_extract_timestamp uuid_extract_version var_pop
    var_samp variance width_bucket min_scale
    """.split()
)

#: Transaction clock: one value per transaction, so a call may be replaced by its value wherever it stands.
CLOCKS = {
    "now": "timestamp with time zone",
    "transaction_timestamp": "timestamp with time zone",
    "statement_timestamp": "timestamp with time zone",
}
#: A new value per evaluation: replaced only where it is evaluated exactly once.
DRAWS = {
    "clock_timestamp": "timestamp with time zone",
    "timeofday": "text",
    "random": "double precision",
    "gen_random_uuid": "uuid",
    "uuidv4": "uuid",
    "uuidv7": "uuid",
}
#: Window functions that depend on the order of rows even among those that are equal in every column they are given.
ORDERED_WINDOWS = frozenset({"row_number", "ntile", "lag", "lead", "first_value", "last_value", "nth_value"})
#: Aggregates whose result shows the order in which rows came.
GATHERING = frozenset(
    """
    any_value array_agg json_agg json_agg_strict json_object_agg jsonb_agg jsonb_agg_strict jsonb_object_agg
    jsonb_object_agg_strict string_agg
    """.split()
)
_SEQUENCES = frozenset({"nextval", "currval", "lastval", "setval"})
_SURROUNDINGS = (
    "pg_ has_ to_reg current_ inet_ txid_ lo_ dblink icu_ getdatabase getpg version session_user system_user "
    "unicode_version row_security obj_description shobj_description col_description set_config format_type"
).split()

#: Types by the name the grammar gives them.
SAFE_TYPES = frozenset(
    """
    bit bool box bpchar bytea cidr circle date daterange datemultirange decimal float4 float8 inet int2 int4 int8
    int4multirange int4range int8multirange int8range interval json jsonb line lseg macaddr macaddr8 numeric
    nummultirange numrange path point polygon text time timestamp timestamptz timetz tsmultirange tsrange
    tstzmultirange tstzrange uuid varbit varchar
    """.split()
)
_OPERATORS = frozenset(
    """
    + - * / % ^ |/ ||/ @ & | # ~ << >> < > <= >= = <> != || -> ->> #> #>> @> <@ ? ?| ?& #- && -|- &< &> << >> <<= >>=
    ~~ ~~* !~~ !~~* ~ ~* !~ !~* ^@ <-> ~>=~ ~<=~ ~>~ ~<~
    """.split()
)
SYSTEM_COLUMNS = frozenset({"ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"})


def check_function(name: str, surface: Surface) -> None:
    """Refuses a function that is neither listed here and non-volatile on this server, nor allowed by configuration."""
    if name in surface.allow_functions:
        return
    volatility = surface.functions.get(name)
    if name in SAFE_FUNCTIONS and volatility in ("i", "s"):
        return
    shout = shown(name)
    if name in _SEQUENCES:
        raise refused(
            f"{shout} draws or moves a number of a sequence.", "Leave the id column out; it is drawn for you."
        )
    if name.startswith(tuple(_SURROUNDINGS)) or "_to_xml" in name:
        raise refused(
            f"{shout} reads or changes the server's own state, which is not the same on production.",
            "Work from the rows of the tables alone; write the value you mean as a literal.",
        )
    if volatility == "v":
        raise refused(
            f"{shout} acts, or answers differently each time it is called.",
            "Write the value you mean as a literal.",
        )
    raise refused(
        f"The function {shout} is not on the list of functions known to be harmless.",
        "Use a built-in function such as lower, round, date_trunc or jsonb_set; the owner can add a function to "
        "[gate] allow_functions.",
    )


def check_type(names: tuple[str, ...], surface: Surface) -> None:
    """Refuses a cast to anything but plain built-in types and the types of the surface's own columns."""
    name = names[-1]
    if len(names) > (2 if names[0] == "pg_catalog" else 1):
        raise refused("A type's name is qualified with a schema.", "Write the bare type name.")
    if name in SAFE_TYPES:
        return
    if len(names) == 1 and not name.startswith(("reg", "pg_")) and name in _own_types(surface):
        return
    raise refused(
        f"The type {shown(name)} is not accepted in a statement.",
        "Use a plain type (text, integer, numeric, date, timestamptz, uuid, jsonb, …) or one of your tables' own.",
    )


def _own_types(surface: Surface) -> Iterable[str]:
    for table in surface.tables.values():
        for text in table.columns.values():
            yield text.removesuffix("[]").rsplit(".", 1)[-1].strip('"')


def check_operator(names: tuple[str, ...]) -> None:
    """Refuses operators that are qualified or not on the list."""
    if len(names) > 1:
        raise refused("OPERATOR(schema.…) names an operator of a schema.", "Write the bare operator.")
    if names[0] not in _OPERATORS:
        raise refused(
            f"The operator {shown(names[0])} is not accepted.",
            "Use the usual operators (=, <, ||, ->>, @>, LIKE, …); placeholders are written $1, $2, not %s.",
        )


def is_catalog(name: str) -> bool:
    """Whether a relation's name belongs to Postgres itself."""
    return name.startswith("pg_") or name == "information_schema"
