"""`onward.toml`: what is read, what is refused, and how it is said."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onward.config import (
    PointTrigger,
    Problem,
    PushTo,
    check_config,
    find_config,
    load_config,
)
from onward.config.lines import line_index
from onward.config.load import read_values, settle_database_url
from onward.config.model import Retention
from onward.contacts.fields import ContactField
from onward.contract import Limit
from onward.errors import ConfigError

# Generating is slow on a busy machine, and the first texts build a large table.
CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

FULL = """\
[onward]
database_url = "sqlite:///data/onward.db"
durability = "power"
engine = "cluster"
lease = "90s"
timezone = "Europe/Amsterdam"
retention_days = 30

[retention]
events = "52w"
reports = "forever"

[plugins]
disabled = ["acme"]

[contact_fields]
birthday = "date"
plan = { type = "choice", title = "Plan", choices = ["free", "paid"] }

[connections.icontact]
integration = "icontact"
push_contacts = false
segment = "Newsletter"
opt_in = "pending"
unsubscribe_means = "everywhere"
limits = ["600/minute", "5/second /import*", "10/30s"]
[connections.icontact.settings]
app_id = "app-1"
password = "${ICONTACT_PASSWORD}"
account_id = 510001

[connections.second]
integration = "icontact"
enabled = false
segment = false
field_map = "maps/second.toml"

[[rules]]
key = "forms"
when = "form.*"
if = [["data.form", "is", "signup"], ["plan", "in", ["paid"]]]
push_to = ["icontact", { to = "second", segment = "VIP" }]
points = -10
add_to = "Readers"
repeat = "24h"

[[point_triggers]]
key = "hot-lead"
name = "Hot lead"
points = 100
push_to = ["icontact"]
re_arm = true
"""
ENV = {"ICONTACT_PASSWORD": "bagel:s3cret"}


def a_file(folder: Path, text: str) -> Path:
    """Write `onward.toml`."""
    path = folder / "onward.toml"
    path.write_text(text, "utf-8")
    return path


def said(folder: Path, text: str) -> list[str]:
    """Return the problems of a file with this text."""
    return [str(p) for p in check_config(a_file(folder, text), ENV)]


def test_everything_is_read(tmp_path: Path) -> None:
    """Each key of the file arrives as the value it means."""
    config = load_config(a_file(tmp_path, FULL), ENV)

    assert config.database_url == f"sqlite:///{tmp_path}/data/onward.db"
    assert config.durability == "power"
    assert config.engine == "cluster"
    assert config.lease == timedelta(seconds=90)
    assert config.timezone == "Europe/Amsterdam"
    assert config.retention_days == 30
    assert config.retention == Retention(
        events=timedelta(weeks=52), deliveries=timedelta(days=30), reports=None
    )
    assert config.plugins_disabled == ("acme",)
    assert config.plugins_dir == tmp_path / "plugins"
    assert config.contact_fields == {
        "birthday": ContactField("birthday", "Birthday", "date"),
        "plan": ContactField("plan", "Plan", "choice", ("free", "paid")),
    }
    first, second = config.connections.values()
    assert (first.name, first.integration, first.enabled) == (
        "icontact",
        "icontact",
        True,
    )
    assert (first.push_contacts, first.segment, first.opt_in) == (
        False,
        "Newsletter",
        "pending",
    )
    assert (first.field_map, first.unsubscribe_means) == ("icontact", "everywhere")
    assert first.limits == (
        Limit(600, timedelta(minutes=1)),
        Limit(5, timedelta(seconds=1), "/import*"),
        Limit(10, timedelta(seconds=30)),
    )
    assert first.settings == {
        "app_id": "app-1",
        "password": "bagel:s3cret",
        "account_id": 510001,
    }
    assert first.secrets_from == {"password"}
    assert first.missing_variables == ()
    assert (second.enabled, second.segment) == (False, False)
    assert second.field_map == str(tmp_path / "maps/second.toml")
    (rule,) = config.rules
    assert rule.push_to == (PushTo("icontact"), PushTo("second", "VIP"))
    assert (rule.points, rule.add_to, rule.repeat) == (
        -10,
        ("Readers",),
        timedelta(hours=24),
    )
    assert rule.conditions.fields() == {"data.form", "plan"}
    assert config.point_triggers == (
        PointTrigger(
            "hot-lead", "Hot lead", 100, push_to=(PushTo("icontact"),), re_arm=True
        ),
    )
    assert config.warnings == ()


def test_defaults_without_a_file() -> None:
    """Without a file the database lies in the current folder."""
    config = load_config(None, {})

    assert config.path is None
    assert config.database_url == f"sqlite:///{Path.cwd()}/onward.db"
    assert (config.lease, config.retention_days) == (timedelta(seconds=60), 90)
    assert config.connections == {}
    assert config.retention == Retention(*[timedelta(days=90)] * 3)


def test_retention_of_zero_days_keeps_everything(tmp_path: Path) -> None:
    """`retention_days = 0` keeps for ever what `[retention]` says nothing of."""
    text = '[onward]\nretention_days = 0\n[retention]\nevents = "7d"\nreports = 0\n'

    config = load_config(a_file(tmp_path, text), {})

    assert config.retention == Retention(timedelta(days=7), None, None)


def test_empty_file_is_fine(tmp_path: Path) -> None:
    """An empty file, also one with a byte order mark, means the defaults."""
    assert said(tmp_path, "") == []
    assert said(tmp_path, "\ufeff[onward]\r\n") == []


def test_which_file(tmp_path: Path) -> None:
    """The named file wins over `ONWARD_CONFIG`, that over `./onward.toml`."""
    env = {"ONWARD_CONFIG": "from-env.toml"}
    assert find_config(None, {}, tmp_path) is None
    here = a_file(tmp_path, "")

    assert find_config("x.toml", env, tmp_path) == tmp_path / "x.toml"
    assert find_config(None, env, tmp_path) == tmp_path / "from-env.toml"
    assert find_config(None, {"ONWARD_CONFIG": ""}, tmp_path) == here


def test_named_file_must_exist(tmp_path: Path) -> None:
    """A file that was named and is not there is refused with its folder."""
    with pytest.raises(ConfigError, match=r"nope\.toml: there is no such file in"):
        load_config(tmp_path / "nope.toml", {})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[onwrad]", 'line 1: "onwrad" is not known; did you mean "onward"?'),
        (
            '[onward]\nleas = "60s"',
            'line 2: onward: "leas" is not known; did you mean "lease"?',
        ),
        (
            "[connections.a]\nintegration = 'a'\nsegmnt = 'x'",
            'line 3: connections.a: "segmnt" is not known; did you mean "segment"?',
        ),
        (
            "[connections.a]\nintegration = 'a'\npassword = 'x'",
            'line 3: connections.a: "password" is not known; the integration\'s own'
            " belong under [connections.a.settings]",
        ),
        ("[connections.a]", 'line 1: connections.a: "integration" is missing'),
        ("connections = 3", "line 1: connections: must be a table"),
        (
            "[connections.A]\nintegration = 'a'",
            "line 1: connections.A: the name may hold a to z, 0 to 9, dot, dash and"
            " underscore, must begin with a letter or digit and be at most 100"
            " characters long",
        ),
        (
            "[rules]\nkey = 'a'",
            "line 1: rules: must be a list of tables, each under a header in double"
            " brackets",
        ),
        (
            "[[rules]]\nwhen = 'x'\npoints = 1",
            'line 1: rules[1]: "key" is missing',
        ),
        (
            "[[rules]]\nkey = 'k'\npoints = 1",
            'line 1: rules.k: "when" is missing',
        ),
        (
            "[[rules]]\nkey = 'k'\nwhen = 'x'",
            'line 1: rules.k: does nothing; give it "push_to", "points" or "add_to"',
        ),
        (
            "[[rules]]\nkey = 'k'\nwhen = 'form.[ab'\npoints = 1",
            'line 3: rules.k.when: the pattern "form.[ab" has a "[" without its "]"',
        ),
        (
            "[[rules]]\nkey = 'k'\nwhen = 'x'\npoints = 1\nrepeat = 'often'",
            'line 5: rules.k.repeat: must be "every", "once" or a cool-down like "24h"'
            ' or "7d"',
        ),
        (
            "[[rules]]\nkey = 'k'\nwhen = 'x'\npoints = '1'",
            "line 4: rules.k.points: must be a whole number, without quotes",
        ),
        (
            "[[rules]]\nkey = 'k'\nwhen = 'x'\npoints = true",
            "line 4: rules.k.points: must be a whole number, without quotes",
        ),
        (
            "[[rules]]\nkey = 'k'\nwhen = 'x'\npush_to = ['nobody']",
            'line 4: rules.k.push_to: there is no connection "nobody"; declare it as'
            " [connections.nobody]",
        ),
        (
            "[[rules]]\nkey = 'k'\nwhen = 'x'\npush_to = [{ segment = 'x' }]",
            'line 4: rules.k.push_to: an entry lacks "to", the name of the connection',
        ),
        (
            "[[rules]]\nkey = 'k'\nwhen = 'x'\npoints = 1\nif = [['contry', 'is', 1]]",
            'line 5: rules.k.if: condition 1: there is no field "contry"; did you mean'
            ' "country"?',
        ),
        (
            "[[point_triggers]]\nkey = 'k'\npoints = 0",
            "line 3: point_triggers.k.points: must be from 1 to 1000000000",
        ),
        (
            "[[point_triggers]]\nkey = 'K!'\npoints = 1",
            "line 2: point_triggers[1].key: may hold a to z, 0 to 9, dot, dash and"
            " underscore, must begin with a letter or digit and be at most 100"
            " characters long",
        ),
        (
            "[[point_triggers]]\nkey = 'k'\npoints = 1\n"
            "[[point_triggers]]\nkey = 'k'\npoints = 2",
            "line 5: point_triggers.k: this key is used twice; each needs its own",
        ),
        (
            "[onward]\nlease = 60",
            "line 2: onward.lease: must be a length of time; write it as"
            ' "60s", "15m", "24h" or "7d"',
        ),
        (
            "[onward]\nlease = '0s'",
            "line 2: onward.lease: must be longer than nothing and shorter than 100"
            " years",
        ),
        (
            "[onward]\nlisten = 'localhost'",
            "line 2: onward.listen: must be an address and a port, as "
            '"127.0.0.1:9464", or a port alone',
        ),
        (
            "[onward]\nlog_format = 'xml'",
            'line 2: onward.log_format: must be "text" or "json"',
        ),
        (
            "[onward]\ndurability = 'high'",
            'line 2: onward.durability: must be "normal" or "power"',
        ),
        (
            "[onward]\nengine = 'celery'",
            'line 2: onward.engine: must be "embedded" or "cluster"',
        ),
        (
            "[onward]\ntimezone = 'Europe/Amstrdam'",
            "line 2: onward.timezone: 'Europe/Amstrdam' is not a time zone; did you"
            ' mean "Europe/Amsterdam"?',
        ),
        (
            "[connections.a]\nintegration = 'a'\nlimits = ['lots']",
            "line 3: connections.a.limits: 'lots' is not a limit; write it as"
            ' "600/minute", or "5/second /import*" for some paths only',
        ),
        (
            "[connections.a]\nintegration = 'a'\nsegment = true",
            "line 3: connections.a.segment: must be a name, an id, or false for none",
        ),
        (
            "[contact_fields]\ncity = 'text'",
            "line 2: contact_fields.city: every contact has this field already; leave"
            " it out",
        ),
        (
            "[contact_fields]\nx = 'datum'",
            'line 2: contact_fields.x: must be "text" or "date" or "boolean" or'
            ' "number" or "choice" or "multi"',
        ),
        (
            "[contact_fields]\nx = { choices = ['a'] }",
            'line 2: contact_fields.x.choices: needs type = "choice" or "multi"',
        ),
        (
            "[retention]\nevents = 90",
            'line 2: retention.events: must be a length of time like "90d" or "52w", '
            'or "forever"',
        ),
        (
            '[retention]\nreports = "1h"',
            "line 2: retention.reports: must be a day or longer",
        ),
        (
            '[retention]\npushes = "7d"',
            'line 2: retention: "pushes" is not known',
        ),
    ],
)
def test_one_problem(tmp_path: Path, text: str, problem: str) -> None:
    """Each mistake is one sentence with its place and line, and what to do."""
    assert said(tmp_path, text) == [problem]


def test_all_problems_at_once(tmp_path: Path) -> None:
    """Loading names every problem, one a line, after the file's name."""
    text = "[onward]\nleas = 1\nretention_days = -1\n[[rules]]\nkey = 'k'\npoints = 1\n"

    with pytest.raises(ConfigError) as caught:
        load_config(a_file(tmp_path, text), {})

    assert caught.value.message.splitlines() == [
        'onward.toml: line 2: onward: "leas" is not known; did you mean "lease"?',
        "onward.toml: line 3: onward.retention_days: must be from 0 to 36500",
        'onward.toml: line 4: rules.k: "when" is missing',
    ]


def test_broken_toml_names_its_line(tmp_path: Path) -> None:
    """What is not TOML is the only problem told, with its line."""
    problems = check_config(a_file(tmp_path, '[onward]\nlease = "60s\nx = 1\n'), {})

    assert [p.line for p in problems] == [2]
    assert problems[0].message.startswith("this is not valid TOML: ")


def test_not_text(tmp_path: Path) -> None:
    """A file in another encoding is refused with what to do."""
    path = tmp_path / "onward.toml"
    path.write_bytes(b"# caf\xe9\n")

    assert [p.message for p in check_config(path, {})] == [
        "the file is not UTF-8 text; save it as UTF-8"
    ]


def test_missing_variable_stops_nobody_else(tmp_path: Path) -> None:
    """A `${VAR}` that is not set is a warning; only its connection lacks a setting."""
    path = a_file(tmp_path, FULL)

    config = load_config(path, {})

    first = config.connections["icontact"]
    assert first.missing_variables == ("ICONTACT_PASSWORD",)
    assert "password" not in first.settings
    assert first.secrets_from == {"password"}
    assert config.connections["second"].missing_variables == ()
    assert config.warnings == (
        Problem(
            "connections.icontact.settings",
            "the environment variable ICONTACT_PASSWORD is not set; the connection"
            " cannot be used until it is",
            27,
            stops=False,
        ),
    )
    assert load_config(path, ENV).warnings == ()


def test_variables_inside_texts(tmp_path: Path) -> None:
    """`${VAR}` may stand anywhere in a text; `$${` is `${` itself."""
    text = """
        [connections.a]
        integration = "a"
        settings = { url = "https://${HOST}/x", raw = "$${HOST} $$5", n = ["${HOST}"] }
    """
    settings = load_config(a_file(tmp_path, text), {"HOST": "h"}).connections["a"]

    assert settings.settings == {
        "url": "https://h/x",
        "raw": "${HOST} $$5",
        "n": ["h"],
    }
    assert settings.secrets_from == {"url", "n"}


def test_secrets_are_in_no_repr_and_no_message(tmp_path: Path) -> None:
    """Neither a repr nor a problem shows a setting or a database password."""
    env = {**ENV, "ONWARD_DATABASE_URL": "postgresql://me:hush-hush@host/db"}
    config = load_config(a_file(tmp_path, FULL), env)
    wrong = "[onward]\ndatabase_url = 'mysql://me:hush-hush@host/db'\n"

    assert "s3cret" not in repr(config)
    assert "app-1" not in repr(config)
    assert "hush-hush" not in repr(config)
    assert said(tmp_path, wrong) == [
        "line 2: onward.database_url: must begin with sqlite:/// (and a path) or"
        " postgresql:// (and a server)"
    ]


def test_fingerprint_follows_what_is_declared(tmp_path: Path) -> None:
    """It stays for the same meaning and changes with a key or a variable's content."""
    table = "[connections.a]\nintegration = 'a'\n{}\nsettings = {{ p = '${{P}}' }}\n"

    def fingerprint(text: str, password: str) -> str:
        config = load_config(a_file(tmp_path, text), {"P": password})
        return config.connections["a"].fingerprint

    first = fingerprint(table.format(""), "one")
    assert fingerprint("# moved\n\n" + table.format(""), "one") == first
    assert fingerprint(table.format(""), "two") != first
    assert fingerprint(table.format("segment = 'x'"), "one") != first
    assert "one" not in first


def test_connections_of_the_database_may_be_named(tmp_path: Path) -> None:
    """A rule may push to a connection the file does not declare, if told of it."""
    path = a_file(tmp_path, "[[rules]]\nkey='k'\nwhen='x'\npush_to='web'\n")

    assert load_config(path, {}, connections_elsewhere=["web"]).rules
    assert load_config(path, {}, connections_elsewhere=None).rules
    with pytest.raises(ConfigError, match='no connection "web"'):
        load_config(path, {})


def test_environment_overrides_the_database(tmp_path: Path) -> None:
    """`ONWARD_DATABASE_URL` wins, and its relative path is the file's too."""
    path = a_file(tmp_path, FULL)
    env = {"ONWARD_DATABASE_URL": "sqlite:///other.db"}

    assert load_config(path, env).database_url == f"sqlite:///{tmp_path}/other.db"
    with pytest.raises(ConfigError, match="ONWARD_DATABASE_URL: must begin with"):
        load_config(path, {"ONWARD_DATABASE_URL": "mysql://x"})


@pytest.mark.parametrize(
    ("url", "settled"),
    [
        ("sqlite:///onward.db", "sqlite:////srv/onward.db"),
        ("sqlite:///onward.db?timeout=5", "sqlite:////srv/onward.db?timeout=5"),
        ("sqlite:////abs/onward.db", "sqlite:////abs/onward.db"),
        ("sqlite://", "sqlite://"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("postgres://u:p@h/d", "postgresql+psycopg://u:p@h/d"),
        ("postgresql://u:p@h/d", "postgresql+psycopg://u:p@h/d"),
        ("postgresql+psycopg://u:p@h/d", "postgresql+psycopg://u:p@h/d"),
    ],
)
def test_database_urls(url: str, settled: str) -> None:
    """SQLite paths become absolute, PostgreSQL gets the driver Onward brings."""
    assert settle_database_url(url, Path("/srv")) == settled


def test_rule_names_its_action(tmp_path: Path) -> None:
    """`when` is a name or a glob; capitals count."""
    rule = load_config(a_file(tmp_path, FULL), ENV).rules[0]

    assert rule.matches("form.submitted")
    assert not rule.matches("Form.submitted")
    assert not rule.matches("page.visited")


def test_lines_of_every_kind_of_key() -> None:
    """Headers, lists of tables, dotted keys and values over many lines are found."""
    text = (
        '[a."b.c"]\nd.e = 1\nf = [\n  ["x"],\n  1,\n]\n'
        '[[r]]\n[[r]]\nk = """\n[r]\n"""\n'
    )

    assert line_index(text) == {
        ("a", "b.c"): 1,
        ("a", "b.c", "d"): 2,
        ("a", "b.c", "d", "e"): 2,
        ("a", "b.c", "f"): 3,
        ("a", "b.c", "f", 0): 3,
        ("a", "b.c", "f", 0, 0): 3,
        ("a", "b.c", "f", 1): 3,
        ("r", 0): 7,
        ("r", 1): 8,
        ("r", 1, "k"): 9,
    }


WORDS = st.sampled_from(
    ["key", "when", "if", "push_to", "to", "points", "repeat", "limits", "segment",
     "settings", "integration", "lease", "choices", "type", "x"]
)  # fmt: skip
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4)
    ),
    max_leaves=12,
)


@CALM
@given(values=st.dictionaries(
    st.sampled_from(["onward", "plugins", "contact_fields", "connections", "rules",
                     "point_triggers", "y"]),
    ANYTHING | st.dictionaries(WORDS, ANYTHING, max_size=4)
    | st.lists(st.dictionaries(WORDS, ANYTHING, max_size=4), max_size=3),
))  # fmt: skip
def test_any_content_is_read_or_refused(values: dict[str, object]) -> None:
    """Whatever valid TOML says, reading ends in a config and a list of problems."""
    _, problems = read_values(values, Path("/srv"), {}, ())

    assert all(isinstance(problem, Problem) for problem in problems.listed(""))


@pytest.mark.parametrize(
    ("given", "listen"),
    [
        ("9464", "127.0.0.1:9464"),
        ('":9464"', "127.0.0.1:9464"),
        ('"0.0.0.0:9464"', "0.0.0.0:9464"),
        ('"[::1]:9464"', "[::1]:9464"),
    ],
)
def test_what_a_worker_needs_around_it(tmp_path: Path, given: str, listen: str) -> None:
    """A port alone is one of this machine; the rest has defaults."""
    text = f'[onward]\nlisten = {given}\ngrace = "5s"\nlog_format = "json"\n'

    config = load_config(a_file(tmp_path, text), {})

    assert (config.listen, config.grace) == (listen, timedelta(seconds=5))
    assert (config.log_format, config.log_level) == ("json", "info")
    plain = load_config(a_file(tmp_path, ""), {})
    assert (plain.listen, plain.grace) == ("", timedelta(seconds=30))


def test_waits_between_tries_are_read(tmp_path: Path) -> None:
    """A list of lengths of time; by default 27 h 35 min in all."""
    path = tmp_path / "onward.toml"
    path.write_text('[onward]\nretry = ["10s", "2h"]\n')
    assert load_config(path, {}).retry == (timedelta(seconds=10), timedelta(hours=2))
    path.write_text("")
    total = sum(load_config(path, {}).retry, timedelta())
    assert total == timedelta(hours=27, minutes=35, seconds=5)
    for wrong in ("[]", '"5s"', '["soon"]', "[5]"):
        path.write_text(f"[onward]\nretry = {wrong}\n")
        with pytest.raises(ConfigError, match=r"onward\.retry: "):
            load_config(path, {})


# -- alerts


def alerts_of(tmp_path: Path, text: str, **env: str) -> tuple[Any, list[str]]:
    """Return `[alerts]` and what is said of it."""
    path = tmp_path / "onward.toml"
    path.write_text(f"[alerts]\n{text}\n")
    try:
        config = load_config(path, env)
    except ConfigError as error:
        return None, error.message.splitlines()
    return config.alerts, [str(warning) for warning in config.warnings]


def test_alerts_are_read(tmp_path: Path) -> None:
    """Address and secret from the environment, lengths of time, shares."""
    text = (
        'webhook = "${HOOK}"\nsecret = "${KEY}"\ndigest = "5m"\nresting = "30m"\n'
        'late = "2h"\nfailing_percent = 5\nfailing_least = 100'
    )
    key = "whsec_" + "QUJD" * 8
    alerts, said = alerts_of(tmp_path, text, HOOK="http://127.0.0.1:9/x", KEY=key)

    assert said == []
    assert (alerts.webhook, alerts.key) == ("http://127.0.0.1:9/x", b"ABC" * 8)
    assert (alerts.digest, alerts.resting) == (
        timedelta(minutes=5),
        timedelta(minutes=30),
    )
    assert alerts.late == timedelta(hours=2)
    assert (alerts.failing_percent, alerts.failing_least) == (5, 100)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('webhook = "hooks.example"', "is no web address; write it as https://host"),
        ('webhook = "ftp://a.example/x"', "is no web address"),
        ('webhook = "https://a.example:99999/x"', "is no web address"),
        ('webhook = "https://a.example/a b"', "is no web address"),
        ('secret = "x"', "there is no webhook to sign for"),
        (
            'webhook = "https://a.example"\nsecret = "too short"',
            'secret: must be "whsec_" and 24 to 64 bytes in base64',
        ),
        ('late = "soon"', "'soon' is not a length of time"),
        ("failing_percent = 0", "failing_percent: must be from 1 to 100"),
        ('webhok = "x"', 'did you mean "webhook"?'),
    ],
)
def test_wrong_alerts_are_refused(tmp_path: Path, text: str, said: str) -> None:
    """One sentence each, with the line, and nothing of what may be secret."""
    alerts, problems = alerts_of(tmp_path, text)

    assert alerts is None
    assert any(said in problem for problem in problems), problems
    assert "a.example" not in "".join(problems)
    assert "too short" not in "".join(problems)


@pytest.mark.parametrize("missing", ["HOOK", "KEY"])
def test_a_missing_variable_leaves_out_the_webhook(
    tmp_path: Path, missing: str
) -> None:
    """Nothing else stops; and nothing is sent unsigned that should be signed."""
    env = {"HOOK": "https://a.example", "KEY": "QUJD" * 8}
    del env[missing]
    text = 'webhook = "${HOOK}"\nsecret = "${KEY}"'

    alerts, said = alerts_of(tmp_path, text, **env)

    assert alerts.webhook == ""
    [warning] = said
    assert f"the environment variable {missing} is not set; alerts are only" in warning
