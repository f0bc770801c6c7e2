"""What the service says, word for word where it was recorded.

Source:
    icontact-api.md 18.2 (literal texts), 4.4 and 5.5; the second half is invented.
"""

from __future__ import annotations

# --- recorded -----------------------------------------------------------------

USERNAME_INVALID = "Api username invalid"
NOT_IMPLEMENTED = "Resource Or Version Not Implemented"
UNKNOWN_ACCOUNT = (
    "You provided a accountId that we did not recognise. "
    "Please provide a valid accountId."
)
NOT_FOUND = "Not Found"
BAD_STATUS = (
    "The status value you provided was not valid. status can be either "
    "donotcontact or normal. Please provide a valid status"
)
MALFORMED = "Invalid Data: You must provide well-formed data."
NO_EMAIL = (
    "You did not provide an email field, which is required. "
    "Please provide an email field"
)


def no_result(identifier: str) -> str:
    """Say that a list is gone; comes with HTTP 500, not 404."""
    return f"No result for ({identifier})."


def missing_field(name: str) -> str:
    """Name a required field; recorded for `name` of a list, generalised here."""
    return (
        f"You did not provide a {name} field, which is required. "
        f"Please provide a {name} field."
    )


def subscription_field_missing(index: int, name: str) -> str:
    """Name the first missing field of one subscription of a batch."""
    return f"Subscription at index {index} field {name} missing."


def invalid_field(name: str) -> str:
    """Name a field that was ignored; recorded where the field was `0`."""
    return f"Invalid field: {name}"


def unknown_terms(names: list[str]) -> str:
    """Tell that search terms were dropped; joining several is inferred."""
    return (
        "The data you received may not be what you expected. This happened because "
        "your request contained terms which could not be recognized and so were "
        f"ignored ({', '.join(names)}).\nYou can do either of the following: ignore "
        "this warning and continue, or make a new request using terms listed in the "
        "API documentation."
    )


# --- invented: the real wording is not known ------------------------------------

UNKNOWN_FOLDER = (
    "You provided a clientFolderId that we did not recognise. "
    "Please provide a valid clientFolderId."
)
UNPAID = "Payment Required"
FORBIDDEN = "Forbidden"
THROTTLED = "Service Unavailable: too many requests"
FULL = "The subscriber limit of this account has been reached."
TOO_MANY_ITEMS = "Request Entity Too Large"
EMAIL_TAKEN = "The email you provided is already in use by another contact."
ID_MISMATCH = "The id in the data does not match the id in the address."
STATE_TOO_LONG = "The state value you provided is longer than 10 characters."
STATUS_LOCKED = "The status of this contact cannot be changed."
BAD_SUBSCRIPTION_STATUS = (
    "The status value you provided was not valid. status can be either normal, "
    "pending or unsubscribed."
)
MOVE_NEEDS_LIST = "You did not provide a listId field, which is required."
MOVE_TAKEN = "The contact is already on that list."
INFORMATION = "This is information only: your data was saved."


def bad_email(email: str) -> str:
    """Refuse an address that is not one."""
    return f"The email value you provided was not valid ({email})."


def bad_value(name: str) -> str:
    """Refuse a value that does not fit the type of its custom field."""
    return f"The {name} value you provided was not valid."


def bad_number(name: str) -> str:
    """Refuse a `limit` or `offset` that is not a usable number."""
    return f"The {name} value you provided was not valid."


def no_such_contact(index: int) -> str:
    """Refuse a subscription for a contact that is not there."""
    return f"Subscription at index {index} contact not found."


def no_such_list(index: int) -> str:
    """Refuse a subscription to a list that is not there."""
    return f"Subscription at index {index} list not found."


def opted_out(index: int) -> str:
    """Refuse to subscribe somebody who opted out or bounced."""
    return f"Subscription at index {index} contact cannot be subscribed to this list."


def already_subscribed(index: int) -> str:
    """Tell that the subscription is there already."""
    return f"Subscription at index {index} already exists."


def bad_field_name(name: str) -> str:
    """Refuse a custom field name with forbidden characters."""
    return f"The privateName value you provided was not valid ({name})."


def field_exists(name: str) -> str:
    """Refuse to create a custom field a second time."""
    return f"The custom field {name} already exists."
