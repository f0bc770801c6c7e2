"""Tests of `onward.fieldmap.map`, and of the maps Onward ships."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onward.contacts.fields import DERIVED_FIELDS, STANDARD_FIELDS
from onward.contract import RemoteField
from onward.errors import FieldMapError
from onward.fieldmap import FieldMap

SHIPPED = Path(__file__).parents[1] / "field_maps"

remote_names = st.text(min_size=1, max_size=12)
lines = st.one_of(
    st.sampled_from(["email", "first_name", "event.data.form", "{{ city | upper }}"]),
    st.builds(
        lambda value, default: {"value": value, "default": default},
        st.sampled_from(["city", "{{ state }}"]),
        st.text(min_size=1).filter(str.strip),
    ),
    st.just({"value": "city", "when_blank": "clear", "direction": "both"}),
)
documents = st.dictionaries(remote_names, lines, min_size=1, max_size=8)


@given(documents)
def test_the_version_is_what_the_map_means(fields: dict[str, object]) -> None:
    """Order, formatting and a way through JSON or TOML do not change it."""
    field_map = FieldMap.parse({"fields": fields}, source="x")
    shuffled = dict(sorted(fields.items(), reverse=True))

    same = [
        FieldMap.parse({"fields": shuffled}, source="y"),
        FieldMap.parse(json.loads(json.dumps(field_map.document)), source="y"),
        FieldMap.loads(field_map.toml, source="y"),
    ]

    assert {other.version for other in same} == {field_map.version}
    assert [other.document for other in same[1:]] == [field_map.document] * 2


def test_another_meaning_is_another_version() -> None:
    """Each change of a value or an option counts."""
    maps = [
        FieldMap.loads(f"[fields]\ncity = {value}", source="x")
        for value in (
            '"city"',
            '"state"',
            '{ value = "city", when_blank = "clear" }',
            '{ value = "city", default = "-" }',
            '"{{ city }}"',
        )
    ]

    assert len({field_map.version for field_map in maps}) == 5


def test_comments_and_spaces_are_no_change() -> None:
    """A map may be explained without pushing everybody again."""
    bare = FieldMap.loads('[fields]\ncity="city"', source="x")
    told = FieldMap.loads('# Ours.\n[fields]\n\ncity   = " city" # town\n', source="x")

    assert told.version == bare.version


def test_sources_are_what_a_push_reads() -> None:
    """Names in templates and the event count; a pulled field does not."""
    field_map = FieldMap.parse(
        {
            "fields": {
                "email": "email",
                "name": "{{ first_name }}{{ event.action }}",
                "city": {"value": "city", "direction": "pull"},
                "state": {"value": "state", "direction": "both"},
            }
        },
        source="x",
    )

    assert field_map.sources() == {"email", "first_name", "event", "state"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[fields]\nx = ", "m.toml: this is not valid TOML: "),
        ("", "m.toml: the map is empty; write [fields] and below it lines such as"),
        ("fields = 3", "m.toml: the map is empty; write [fields]"),
        (
            '[field]\nemail = "email"',
            'm.toml: "field" is not known here (did you mean "fields"?); a field map'
            " has one table, [fields]",
        ),
        ("[fields]\nemail = 3", "m.toml: email is neither a text nor a table"),
    ],
)
def test_a_file_that_is_no_map_says_so(tmp_path: Path, text: str, message: str) -> None:
    """The message starts with the source."""
    (tmp_path / "m.toml").write_text(text)

    with pytest.raises(FieldMapError) as refused:
        FieldMap.load(tmp_path / "m.toml")

    assert refused.value.message.startswith(f"{tmp_path}/{message}")


def test_a_file_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    """A missing file and a foreign encoding are the user's to repair."""
    (tmp_path / "latin.toml").write_bytes(b"# \xe9")

    with pytest.raises(FieldMapError, match="cannot be read: No such file"):
        FieldMap.load(tmp_path / "missing.toml")
    with pytest.raises(FieldMapError, match="cannot be read: it is not UTF-8"):
        FieldMap.load(tmp_path / "latin.toml")


def test_a_map_writes_itself_as_toml() -> None:
    """Strange names are quoted, tables stay on one line."""
    fields = {"a b": "city", "city": {"value": "city", "default": 'say "hi"\n'}}

    written = FieldMap.parse({"fields": fields}, source="x").toml

    assert written == (
        '[fields]\n"a b" = "city"\n'
        'city = { value = "city", default = "say \\"hi\\"\\n" }\n'
    )
    assert tomllib.loads(written) == {"fields": fields}


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.toml")), ids=lambda p: p.stem)
def test_a_shipped_map_names_only_fields_every_contact_has(path: Path) -> None:
    """It works before anybody declares a custom field."""
    field_map = FieldMap.load(path)

    assert field_map.sources() <= {*STANDARD_FIELDS, *DERIVED_FIELDS, "event"}


def test_the_default_map_of_icontact_covers_its_standard_fields() -> None:
    """A full contact arrives whole; a state that is too long is left out."""
    names = ["prefix", "firstName", "lastName", "suffix", "street", "street2", "city"]
    names += ["postalCode", "phone", "fax", "business"]
    remote_fields = [
        RemoteField("email", required=True),
        RemoteField("state", max_length=10),
        *map(RemoteField, names),
    ]
    bound = FieldMap.load(SHIPPED / "icontact.toml").bind(
        remote_fields, STANDARD_FIELDS
    )

    mapped = bound.render({name: name[:10] for name in STANDARD_FIELDS})
    long = bound.render({"email": "ann@shop.example", "state": "North Carolina"})

    assert set(mapped.fields) == {"email", "state", *names}
    assert mapped.fields["business"] == "company"
    assert mapped.warnings == ()
    assert long.fields == {"email": "ann@shop.example"}
    assert long.warnings == ("state left out: 14 characters, the service takes 10",)
