"""The fields every contact has, as data: name, title, type, other names.

Custom fields are declared (in `onward.toml` or by an import) and live beside
these in the contact's `custom`; a map, a filter and an import name both alike.
"""

from __future__ import annotations

from dataclasses import dataclass

from onward.contract import FieldType


@dataclass(frozen=True, slots=True)
class ContactField:
    """One field of a contact.

    Args:
        name: the word used in maps, filters, imports and the API.
        title: what people call it.
        type: of its values.
        choices: accepted values of `choice` and `multi`; empty = any.
    """

    name: str
    title: str
    type: FieldType = "text"
    choices: tuple[str, ...] = ()


EMAIL = ContactField("email", "E-mail")

TEXT_FIELDS: tuple[ContactField, ...] = (
    ContactField("prefix", "Prefix"),
    ContactField("first_name", "First name"),
    ContactField("last_name", "Last name"),
    ContactField("suffix", "Suffix"),
    ContactField("company", "Company"),
    ContactField("position", "Position"),
    ContactField("phone", "Phone"),
    ContactField("mobile", "Mobile"),
    ContactField("fax", "Fax"),
    ContactField("street", "Street"),
    ContactField("street2", "Street, second line"),
    ContactField("city", "City"),
    ContactField("state", "State"),
    ContactField("postal_code", "Postal code"),
    ContactField("country", "Country"),
    ContactField("website", "Website"),
)

STANDARD_FIELDS: dict[str, ContactField] = {
    field.name: field for field in (EMAIL, *TEXT_FIELDS)
}

# What a map or filter may also name: not typed in by anybody, kept by Onward.
DERIVED_FIELDS: dict[str, ContactField] = {
    field.name: field
    for field in (
        ContactField("id", "Onward's id", "number"),
        ContactField("points", "Points", "number"),
        ContactField("tags", "Tags", "multi"),
        ContactField("segments", "Segments", "multi"),
        ContactField("do_not_contact", "Do not contact", "boolean"),
        ContactField("created_at", "Created", "date"),
    )
}
