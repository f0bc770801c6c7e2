"""Headers: what other tools call our fields."""

from __future__ import annotations

import pytest

from onward.contacts.fields import STANDARD_FIELDS, ContactField
from onward.contacts.headers import (
    HEADERS,
    KNOWN,
    OPT_OUT_HEADERS,
    OPT_OUT_WORDS,
    PASSED_OVER,
    Columns,
    closest,
    opt_out_word,
    plain,
)
from onward.errors import InputError

BIRTHDAY = ContactField("birthday", "Date of birth", "date")


def columns_of(
    *headers: str,
    mapping: dict[str, str] | None = None,
    custom: tuple[ContactField, ...] = (),
) -> Columns:
    """Take all headers of a file into account."""
    columns = Columns(headers, mapping or {}, {field.name: field for field in custom})
    for header in headers:
        columns.add(header)
    return columns


def test_no_header_means_two_things() -> None:
    """Each spelling stands in one list only."""
    spellings = [
        *(plain(word) for words in HEADERS.values() for word in words),
        *map(plain, OPT_OUT_HEADERS),
        *map(plain, PASSED_OVER),
    ]

    assert sorted(spellings) == sorted(set(spellings))
    own = {plain(name): name for name in STANDARD_FIELDS}
    assert {key: KNOWN[key].field for key in own} == own


def test_no_word_is_an_opt_out_and_none() -> None:
    """Each word for an opt-out has one meaning."""
    words = [plain(word) for words in OPT_OUT_WORDS.values() for word in words]

    assert sorted(words) == sorted(set(words))
    assert opt_out_word("Opted-Out") == "unsubscribed"
    assert opt_out_word("cleaned") == "bounced"
    assert opt_out_word("Subscribed") == ""
    assert opt_out_word("perhaps") is None


@pytest.mark.parametrize(
    ("header", "field"),
    [
        ("E-Mail", "email"),
        ("e_mail", "email"),
        ("[email]", "email"),
        (" Email Address ", "email"),
        ("EMAIL", "email"),
        ("firstname", "first_name"),
        ("first_name", "first_name"),
        ("First Name", "first_name"),
        ("firstName", "first_name"),
        ("[fname]", "first_name"),
        ("Vorname", "first_name"),
        ("Last name", "last_name"),
        ("zipcode", "postal_code"),
        ("Zip/Postal Code", "postal_code"),
        ("address1", "street"),
        ("Address", "street"),
        ("State/Region", "state"),
        ("Straße", "street"),
        ("Job Title", "position"),
        ("Mobile Phone Number", "mobile"),
        ("Business", "company"),
        ("TAGS", "tags"),
        ("doNotContact", "do_not_contact"),
        ("UNSUB_TIME", "do_not_contact"),
        ("Status", "do_not_contact"),
        ("identity:crm", "identity:crm"),
        ("identity:email", "email"),
        ("Mautic ID", "identity:mautic"),
        ("MEMBER_RATING", None),
        ("Full name", None),
        ("Shoe size", None),
    ],
)
def test_headers_are_recognised(header: str, field: str | None) -> None:
    """Headers are known in any case, with any blanks and punctuation."""
    assert columns_of(header).columns == {header.strip(): field}


def test_mautics_export_is_understood() -> None:
    """In Mautic's export `id` is Mautic's number and `title` is Mr or Dr."""
    columns = columns_of("id", "title", "firstname", "lastname", "email")

    assert columns.columns == {
        "id": "identity:mautic",
        "title": "prefix",
        "firstname": "first_name",
        "lastname": "last_name",
        "email": "email",
    }


def test_an_id_or_title_of_unknown_origin_is_not_guessed() -> None:
    """Elsewhere nobody is recognised by `id`, and a title may be a position."""
    columns = columns_of("id", "Title", "email", "first_name")

    assert columns.columns == {
        "id": None,
        "Title": None,
        "email": "email",
        "first_name": "first_name",
    }
    assert columns.ignored == {
        "id": "whose number it is, is not known; map it to identity:KIND",
        "Title": "map it to prefix (Mr, Dr) or to position (Head of Sales)",
    }


def test_a_title_beside_a_position_is_the_prefix() -> None:
    """Where another column is the position, the title is Mr or Dr."""
    columns = columns_of("email", "Title", "Job title")

    assert columns.columns["Title"] == "prefix"


def test_ignored_headers_say_what_was_probably_meant() -> None:
    """A mistyped header is ignored, with the name it is close to."""
    columns = columns_of("email", "Frist Name", "Shoe size", "LEID")

    assert columns.ignored == {
        "Frist Name": "did you mean first_name?",
        "Shoe size": "",
        "LEID": "kept by the tool that wrote the file",
    }
    assert closest("postalcod", ["postal_code", "city"]) == "did you mean postal_code?"


def test_two_columns_for_one_field_are_told() -> None:
    """A second column of a field is kept and the order is said."""
    columns = columns_of("Email", "E-Mail 1", "Email", "tags", "tag")

    assert columns.columns == {
        "Email": "email",
        "E-Mail 1": "email",
        "Email (column 3)": "email",
        "tags": "tags",
        "tag": "tags",
    }
    assert columns.notes == [
        'email is taken from "Email" and, where that is blank, from "E-Mail 1"'
    ]


def test_declared_custom_fields_are_found_by_name_and_title() -> None:
    """A custom field takes the column of its name or title without a mapping."""
    columns = columns_of("email", "Birthday", custom=(BIRTHDAY,))
    titled = columns_of("email", "date_of_birth", custom=(BIRTHDAY,))
    nested = columns_of("email", "custom.birthday", custom=(BIRTHDAY,))

    assert columns.columns["Birthday"] == "birthday"
    assert titled.columns["date_of_birth"] == "birthday"
    assert nested.columns["custom.birthday"] == "birthday"


def test_a_mapping_wins() -> None:
    """A mapping names standard and new fields, identities, and what to ignore."""
    columns = columns_of(
        "Kontakt",
        "Geburtstag",
        "Kundennummer",
        "First name",
        "Company",
        "Punkte",
        mapping={
            "kontakt": "email",
            "Geburtstag": "birthday:date",
            "Kundennummer": "identity:crm",
            "First Name": "-",
            "Company": "",
            "Punkte": "points",
        },
    )

    assert columns.columns == {
        "Kontakt": "email",
        "Geburtstag": "birthday",
        "Kundennummer": "identity:crm",
        "First name": None,
        "Company": None,
        "Punkte": "points",
    }
    assert columns.new_fields == {
        "birthday": ContactField("birthday", "Geburtstag", "date")
    }


def test_a_mapping_may_name_a_declared_custom_field() -> None:
    """With or without its type; it is not declared again."""
    for meaning in ("birthday", "birthday:date"):
        columns = columns_of(
            "email", "Geb.", mapping={"Geb.": meaning}, custom=(BIRTHDAY,)
        )

        assert columns.columns["Geb."] == "birthday"
        assert columns.new_fields == {}


@pytest.mark.parametrize(
    ("meaning", "why"),
    [
        ("frist_name", "did you mean first_name?"),
        ("shoe_size", "write shoe_size:text to declare it"),
        ("birthday:day", "the types are text, date, boolean"),
        ("birthday:text", "birthday is declared as date"),
        ("city:text", 'leave out ":text"'),
        ("id:number", "every contact has"),
        ("Shoe size:text", "lower-case letters"),
        ("identity:", "a kind of identity is a word"),
        ("identity:My CRM", "a kind of identity is a word"),
    ],
)
def test_a_wrong_mapping_is_refused(meaning: str, why: str) -> None:
    """What a mapping cannot mean is refused, with the column and what to do."""
    with pytest.raises(InputError) as caught:
        columns_of("email", "Neu", mapping={"Neu": meaning}, custom=(BIRTHDAY,))

    assert caught.value.message.startswith('the mapping of column "Neu"')
    assert why in caught.value.message


def test_a_mapping_of_a_missing_column_is_refused() -> None:
    """A mapping that names no column of the file would be a silent mistake."""
    near = columns_of("email", "Geburtstag", mapping={"Geburstag": "birthday:date"})
    far = columns_of("email", "city", mapping={"Tier": "tier:text"})

    with pytest.raises(InputError, match=r'"Geburstag".*did you mean Geburtstag\?'):
        near.check_mapping()
    with pytest.raises(InputError, match=r'"Tier".*its columns are email, city'):
        far.check_mapping()
