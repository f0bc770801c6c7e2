"""A first field map for an account nobody mapped yet."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from onward.contacts.fields import ContactField
from onward.contract import RemoteField
from onward.fieldmap.convert import CONVERTERS

# Our field → what services call it; lower case, letters and digits alone.
_SYNONYMS: dict[str, tuple[str, ...]] = {
    "email": ("emailaddress", "mail", "subscriberemail"),
    "prefix": ("salutation", "honorific", "nameprefix"),
    "firstname": ("fname", "givenname", "forename"),
    "lastname": ("lname", "surname", "familyname"),
    "suffix": ("namesuffix",),
    "company": ("business", "businessname", "companyname", "organization"),
    "position": ("jobtitle", "job", "role"),
    "phone": ("phonenumber", "telephone", "tel", "businessphone", "workphone"),
    "mobile": ("mobilephone", "mobilenumber", "cell", "cellphone", "sms"),
    "fax": ("faxnumber",),
    "street": ("street1", "address", "address1", "addressline1", "streetaddress"),
    "street2": ("address2", "addressline2"),
    "city": ("town", "locality"),
    "state": ("region", "province"),
    "postalcode": ("zip", "zipcode", "postcode", "postal"),
    "country": ("countryname",),
    "website": ("url", "web", "homepage"),
    "points": ("score", "leadscore"),
}
_OURS = {theirs: ours for ours, known in _SYNONYMS.items() for theirs in known}
_OURS["organisation"] = "company"

# A service's own "id" or creation date is not ours.
_NEVER = frozenset({"id", "created_at"})


def suggest(
    remote_fields: Sequence[RemoteField], contact_fields: Mapping[str, ContactField]
) -> dict[str, str]:
    """Return remote name → contact field for what is plainly the same.

    Names are compared without case, blanks and underscores, then as synonyms,
    then by title. A contact field is suggested once; required remote fields
    come first and choose first.
    """
    free = {
        _plain(name): field
        for name, field in contact_fields.items()
        if name not in _NEVER
    }
    ordered = sorted(remote_fields, key=lambda remote: not remote.required)
    found: dict[str, str] = {}
    # Exact names first, so that `street1` cannot take what `street` names.
    for candidates in (_names, _synonyms):
        for remote in ordered:
            if remote.name in found:
                continue
            for name in candidates(remote):
                field = free.get(name)
                if field and remote.type in CONVERTERS[field.type]:
                    found[remote.name] = field.name
                    del free[name]
                    break
    return {
        remote.name: found[remote.name] for remote in ordered if remote.name in found
    }


def _names(remote: RemoteField) -> list[str]:
    return [_plain(remote.name)]


def _synonyms(remote: RemoteField) -> list[str]:
    named, titled = _plain(remote.name), _plain(remote.title)
    return [_OURS.get(named, named), titled, _OURS.get(titled, titled)]


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).casefold()
