"""Rests with a reason, calls counted, alerts, and what pruning and listing look up.

Release: 0.2.0
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add, and take nothing away: processes of 0.1.0 go on working beside it."""
    _add_columns()
    op.create_table(
        "alert",
        sa.Column("id", BIG, nullable=False),
        sa.Column("connection_id", BIG, nullable=False),
        sa.Column("connection", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("opened_at", MOMENT, nullable=False),
        sa.Column("last_at", MOMENT, nullable=False),
        sa.Column("closed_at", MOMENT, nullable=True),
        sa.Column("told_at", MOMENT, nullable=True),
        sa.Column("told_closed_at", MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "alert_open",
        "alert",
        ["connection_id", "kind", "subject"],
        unique=True,
        sqlite_where=sa.text("closed_at IS NULL"),
        postgresql_where=sa.text("closed_at IS NULL"),
    )
    op.create_table(
        "alert_message",
        sa.Column("id", BIG, nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("logged", sa.Boolean(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("due_at", MOMENT, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    untold = sa.text(
        "told_at IS NULL OR (closed_at IS NOT NULL AND told_closed_at IS NULL)"
    )
    op.create_index(
        "alert_untold",
        "alert",
        ["id"],
        unique=False,
        sqlite_where=untold,
        postgresql_where=untold,
    )
    op.create_index(
        "alert_subject", "alert", ["connection_id", "kind", "subject", "id"]
    )
    failed = sa.text("state = 'failed'")
    op.create_index(
        "push_failed",
        "push",
        ["finished_at"],
        unique=False,
        sqlite_where=failed,
        postgresql_where=failed,
    )
    op.create_table(
        "schema_step",
        sa.Column("step", sa.String(), nullable=False),
        sa.Column("release", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("step"),
    )
    op.create_index(op.f("ix_alert_opened_at"), "alert", ["opened_at"], unique=False)
    op.create_index(
        op.f("ix_attempt_started_at"), "attempt", ["started_at"], unique=False
    )
    op.create_index(
        op.f("ix_import_report_started_at"),
        "import_report",
        ["started_at"],
        unique=False,
    )
    op.create_index("push_connection", "push", ["connection_id", "id"], unique=False)
    sending = sa.text("state = 'sending'")
    op.create_index(
        "push_sending",
        "push",
        ["connection_id", "fence"],
        unique=False,
        sqlite_where=sending,
        postgresql_where=sending,
    )
    rare = sa.text("code NOT IN ('', 'delivered', 'unchanged')")
    op.create_index(
        "push_code",
        "push",
        ["code", "id"],
        unique=False,
        sqlite_where=rare,
        postgresql_where=rare,
    )
    for name, table, column in (
        ("push_finished", "push", "finished_at"),
        ("contact_merged", "contact", "merged_into"),
        ("cause_replay", "cause", "replay_of"),
    ):
        where = sa.text(f"{column} IS NOT NULL")
        op.create_index(
            name,
            table,
            [column],
            unique=False,
            sqlite_where=where,
            postgresql_where=where,
        )


def _add_columns() -> None:
    for table, column in (
        (
            "connection",
            sa.Column("rest_code", sa.String(), server_default=sa.text("''")),
        ),
        (
            "connection",
            sa.Column("rest_why", sa.String(), server_default=sa.text("''")),
        ),
        ("lease", sa.Column("holder", sa.String(), server_default=sa.text("''"))),
        ("limiter", sa.Column("used", BIG, server_default=sa.text("0"))),
        ("limiter", sa.Column("since", sa.Float(), server_default=sa.text("0"))),
        ("limiter", sa.Column("speed", sa.Float(), server_default=sa.text("1"))),
        ("limiter", sa.Column("changed", sa.Float(), server_default=sa.text("0"))),
    ):
        column.nullable = False
        op.add_column(table, column)
    op.add_column("connection", sa.Column("rest_since", MOMENT, nullable=True))
    op.add_column("connection", sa.Column("tried_at", MOMENT, nullable=True))
