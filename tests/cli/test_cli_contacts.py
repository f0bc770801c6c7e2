"""`onward contacts` and `onward why`."""

from __future__ import annotations

import csv
import io

import pytest

from .conftest import Place

TWO = "email,First Name,points\nAna@Shop.example,Ana,5\nbo@mail.example,Bo,\n"


@pytest.mark.parametrize(
    ("text", "status", "taken"),
    [
        (TWO, 0, 2),
        (TWO + "nobody,No,\n", 1, 2),
        ("email\nnobody\n", 2, 0),
    ],
)
def test_an_import_ends_as_it_went(
    place: Place, text: str, status: int, taken: int
) -> None:
    """0 = every line is in, 1 = some were refused, 2 = none is in."""
    place.write("people.csv", text)

    ran = place.run("contacts", "import", "people.csv")

    assert (ran.status, f"taken: {taken}\n" in ran.out) == (status, True)
    assert len(place.good("contacts", "export", "--json").json) == taken
    assert ("line " in ran.err) == (status > 0)


def test_an_export_says_how_its_fields_are_kept(place: Place) -> None:
    """A custom field that is not known here is named with the way to keep it."""
    place.write("out.csv", "email,likes\nana@shop.example,tea\n")

    ran = place.good("contacts", "import", "out.csv")

    said = "column likes left out: map it to likes:text or another type\n"
    assert ran.err == said
    place.good("contacts", "import", "out.csv", "--map", "likes=likes:text")
    [contact] = place.good("contacts", "--json").json
    assert contact["custom"] == {"likes": "tea"}


def test_a_file_without_contacts_ends_2(place: Place) -> None:
    """Names of columns alone are no import that went well."""
    place.write("people.csv", "email,first_name\n")

    ran = place.run("contacts", "import", "people.csv")

    said = "there is no contact in it\n"
    assert (ran.status, ran.err) == (2, said)
    place.write("people.csv", TWO)
    place.good("contacts", "import", "people.csv")


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "\x00\x01\x02PK\x03\x04", ""])
def test_a_file_of_the_wrong_kind_ends_2(place: Place, text: str) -> None:
    """A file nobody can be read from is one sentence, and nothing is taken."""
    place.write("people.csv", text)

    ran = place.run("contacts", "import", "people.csv")

    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert place.good("contacts", "--json").json == []


def test_where_refused_lines_go_is_checked_first(place: Place) -> None:
    """A place that cannot be written is said before anything is imported."""
    place.write("people.csv", "email\nana@shop.example\n")
    bad = str(place.path / "nowhere" / "bad.csv")

    ran = place.run("contacts", "import", "people.csv", "--refused", bad)

    said = f"{bad} cannot be written: No such file or directory\n"
    assert (ran.status, ran.out, ran.err) == (1, "", said)
    assert place.good("contacts", "--json").json == []
    place.run("contacts", "import", "people.txt", "--refused", "bad.csv")
    assert not (place.path / "bad.csv").exists()
    place.good("contacts", "import", "people.csv", "--refused", "bad.csv")


def test_columns_may_be_mapped_and_refused_lines_kept(place: Place) -> None:
    """--map says where a column goes, --refused writes down what was not taken."""
    place.write("people.csv", "Adres,Plaats\nana@shop.example,Köln\nx,Ulm\n")
    options = ["--map", "Adres=email", "--map", "Plaats=city", "--refused", "no.csv"]

    ran = place.run("contacts", "import", "people.csv", *options)

    assert ran.status == 1
    [row] = place.good("contacts", "export", "--json").json
    assert (row["email"], row["city"]) == ("ana@shop.example", "Köln")
    kept = csv.reader(io.StringIO((place.path / "no.csv").read_text("utf-8")))
    assert [line[0] for line in kept] == ["line", "3"]


def test_an_export_is_csv_that_an_import_takes(place: Place) -> None:
    """CSV on stdout, and nothing else; formulas are neutralised."""
    place.write("people.csv", "email,first_name\nana@shop.example,=1+1\n")
    place.good("contacts", "import", "people.csv")

    ran = place.good("contacts", "export")

    [row] = csv.DictReader(io.StringIO(ran.out))
    assert (row["email"], row["first_name"]) == ("ana@shop.example", "'=1+1")
    place.write("again.csv", ran.out)
    assert "unchanged: 1\n" in place.good("contacts", "import", "again.csv").out


def test_a_contact_has_its_promised_keys(place: Place) -> None:
    """The keys of a contact in export and show are as documented."""
    place.write("people.csv", TWO)
    place.good("contacts", "import", "people.csv")

    shown = place.good("contacts", "show", "ana@shop.example", "--json").json
    listed = place.good("contacts", "--json").json

    promised = {"id", "email", "first_name", "points", "tags", "segments"}
    promised |= {"suppressions", "custom"}
    assert promised <= shown.keys()
    assert promised <= listed[0].keys()
    assert (shown["first_name"], shown["points"]) == ("Ana", 5)
    assert "first_name: Ana\n" in place.good("contacts", "show", "ana@shop.example").out


def test_an_opt_out_stops_and_a_consent_lifts(place: Place) -> None:
    """Suppressed, somebody is skipped with the reason; after a consent, pushed."""
    place.write("people.csv", TWO)
    place.good("contacts", "import", "people.csv")
    push = ("push", "ana@shop.example", "--to", "icontact", "--now")

    place.good("contacts", "suppress", "ana@shop.example", "--reason", "wrote to us")
    stopped = place.run(*push)

    assert stopped.status == 1
    assert "ana@shop.example skipped (suppressed): wrote to us, seen " in stopped.out
    assert place.sim.folder().on_list("Newsletter") == set()
    how = ("contacts", "consent", "ana@shop.example", "--how", 'form "newsletter"')
    assert place.good(*how).out == "recorded; it lifted 1 opt-out\n"
    place.good(*push)
    assert place.sim.folder().on_list("Newsletter") == {"ana@shop.example"}


def test_a_consent_needs_to_say_how(place: Place) -> None:
    """Without --how a consent is a wrong call."""
    assert place.run("contacts", "consent", "ana@shop.example").status == 2


def test_erasing_leaves_nobody(place: Place) -> None:
    """Who was erased is not listed and not shown any more."""
    place.write("people.csv", TWO)
    place.good("contacts", "import", "people.csv")

    place.good("contacts", "erase", "ana@shop.example")

    left = [row["email"] for row in place.good("contacts", "--json").json]
    assert left == ["bo@mail.example"]
    assert place.run("contacts", "show", "ana@shop.example").status == 1


def test_why_says_what_happened(place: Place) -> None:
    """`why` names the suppression that stopped a push, in words."""
    place.write("people.csv", TWO)
    place.good("contacts", "import", "people.csv")
    place.good("contacts", "suppress", "bo@mail.example", "--reason", "asked us")
    place.run("push", "bo@mail.example", "--to", "icontact", "--now")

    ran = place.good("why", "bo@mail.example")

    assert "asked us, seen " in ran.out
    assert place.run("why", "nobody@mail.example").status == 1
