"""Two whole small businesses, written in the manner of well-known samples, each fixed the way a rep would."""

import pytest

from shadow.errors import StatementFailed, StatementRefused
from shadow.fence import FenceRules
from tests.fixes import REP
from tests.schemas.whole import WholeWay, schema

RENTALS = FenceRules(root="store", key="store_id", label="name")
SHOP = FenceRules(root="Label", key="LabelId", label="Name")
LABEL = "00000000-0000-0000-0000-000000000001"


def test_a_rental_business_is_put_right(whole_way: WholeWay) -> None:
    way = whole_way(schema("pagila"), RENTALS)
    applied = way.applied(
        "UPDATE customer SET email = 'new@example.org', active = false WHERE customer_id = 2",
        "UPDATE payment SET amount = amount - 1.50 WHERE customer_id = 2",
        "UPDATE payment SET payment_date = payment_date + interval '1 month' WHERE customer_id = 6 AND payment_date < '2024-02-01'",
        "INSERT INTO rental(rental_date, inventory_id, customer_id, staff_id) VALUES ('2024-03-01 09:00+00', 2, 6, 1), ('2024-03-02 09:00+00', 4, 8, 1)",
        "INSERT INTO payment(customer_id, staff_id, rental_id, amount, payment_date)"
        " SELECT customer_id, staff_id, rental_id, 3, rental_date FROM rental WHERE rental_date > '2024-03-01' AND customer_id IN (6, 8) AND return_date IS NULL ORDER BY rental_id",
        "UPDATE rental SET return_date = rental_date + interval '2 days' WHERE return_date IS NULL AND staff_id = 1",
        "UPDATE store SET manager_id = 3 WHERE store_id = 1",
        "DELETE FROM customer WHERE customer_id = 4",
    )
    assert {row.table for row in applied.diff.rows} == {"customer", "payment", "rental", "store"}
    assert applied.origins("payment") == {"statement", "cascade"}
    assert "trigger balance" in applied.origins("customer")
    with pytest.raises(StatementRefused, match="read but not changed"):
        way.run("UPDATE film SET rental_rate = 0 WHERE film_id = 1")
    with pytest.raises(StatementFailed, match="leave the tenant's fence"):
        way.run("UPDATE rental SET customer_id = 3 WHERE customer_id = 2")


def test_a_manager_is_named_before_being_hired(whole_way: WholeWay) -> None:
    applied = whole_way(schema("pagila"), RENTALS).applied(
        "UPDATE store SET manager_id = 50 WHERE store_id = 1",
        "INSERT INTO staff(staff_id, store_id, address_id, name) VALUES (50, 1, 1, 'Dee')",
    )
    assert {(row.table, row.kind) for row in applied.diff.rows} == {("store", "update"), ("staff", "insert")}


def test_a_music_shop_with_names_of_an_orm(whole_way: WholeWay) -> None:
    way = whole_way(schema("chinook"), SHOP, tenant=LABEL, search_path=("Shop",))
    mine = '"ArtistId" IN (2, 4, 6)'
    applied = way.applied(
        f'UPDATE "Track" t SET "UnitPrice" = 1.29, "Meta" = t."Meta" || \'{{"raised": true}}\' FROM "Album" a WHERE a."AlbumId" = t."AlbumId" AND a.{mine} AND t."GenreId" = 1',
        'UPDATE "InvoiceLine" SET "Quantity" = 2 WHERE "InvoiceId" IN (2, 4)',
        'INSERT INTO "Album"("Title", "ArtistId") VALUES (\'New\', 2)',
        'INSERT INTO "Track"("Name", "AlbumId", "MediaTypeId", "Milliseconds", "UnitPrice") SELECT \'Song\', "AlbumId", 1, 60000, 0.99 FROM "Album" WHERE "Title" = \'New\'',
        'DELETE FROM "Playlist" WHERE "PlaylistId" = 2',
        'DELETE FROM "Invoice" WHERE "InvoiceId" = 6',
        'UPDATE "Employee" SET "ReportsTo" = NULL, "HireDate" = \'2021-01-01\' WHERE "EmployeeId" = 4',
        drawn=[("Shop.Change Log", "Id")],
    )
    tables = {"Track", "InvoiceLine", "Invoice", "Album", "Playlist", "PlaylistTrack", "Employee", "Change Log"}
    assert {row.table for row in applied.diff.rows} == tables
    seen = way.fixes.desk.query(REP, way.run(), 'SELECT count(*) FROM "Artist" AS a WHERE a."Name" LIKE \'artist%\'')
    assert seen.rows == (("3",),)
