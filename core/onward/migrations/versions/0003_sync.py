"""The pull, what is asked of services besides pushes, and audiences.

Release: 0.2.0
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add, and take nothing away."""
    _add_columns()
    op.create_table(
        "sync_plan",
        sa.Column("connection_id", BIG, nullable=False),
        sa.Column("due_at", MOMENT, nullable=True),
        sa.Column("why", sa.String(), nullable=False),
        sa.Column("schedule", sa.String(), nullable=False),
        sa.Column("anchor_at", MOMENT, nullable=False),
        sa.Column("full", sa.Boolean(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("offered", sa.Boolean(), nullable=False),
        sa.Column("place", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("connection_id"),
    )
    op.create_table(
        "sync_run",
        sa.Column("id", BIG, nullable=False),
        sa.Column("connection_id", BIG, nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("why", sa.String(), nullable=False),
        sa.Column("full", sa.Boolean(), nullable=False),
        sa.Column("accepted", sa.Boolean(), nullable=False),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("cursor", sa.JSON(), nullable=False),
        sa.Column("pages", sa.Integer(), nullable=False),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.Column("sample", sa.JSON(), nullable=False),
        sa.Column("notes", sa.JSON(), nullable=False),
        sa.Column("seed", sa.Integer(), nullable=False),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.Column("finished_at", MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("sync_run_connection", "sync_run", ["connection_id", "id"])
    op.create_index(op.f("ix_sync_run_finished_at"), "sync_run", ["finished_at"])
    is_open = sa.text("state IN ('running', 'asks')")
    op.create_index(
        "sync_run_open",
        "sync_run",
        ["connection_id"],
        unique=True,
        sqlite_where=is_open,
        postgresql_where=is_open,
    )
    op.create_table(
        "sync_page",
        sa.Column("run_id", BIG, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("members_of", sa.String(), nullable=False),
        sa.Column("ids", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "number"),
    )
    op.create_table(
        "hint",
        sa.Column("connection_id", BIG, nullable=False),
        sa.Column("remote_id", sa.String(), nullable=False),
        sa.Column("segments", sa.JSON(), nullable=False),
        sa.Column("run_id", BIG, nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("due_at", MOMENT, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("connection_id", "remote_id"),
    )
    op.create_index("hint_due", "hint", ["connection_id", "due_at"])
    op.create_table(
        "webhook",
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("connection_id", BIG, nullable=False),
        sa.Column("place", sa.String(), nullable=False),
        sa.Column("sealed", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("heard_at", MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_index(op.f("ix_webhook_connection_id"), "webhook", ["connection_id"])
    op.create_table(
        "errand",
        sa.Column("id", BIG, nullable=False),
        sa.Column("connection_id", BIG, nullable=False),
        sa.Column("contact_id", BIG, nullable=False),
        sa.Column("remote_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("due_at", MOMENT, nullable=False),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("asked_by", sa.String(), nullable=False),
        sa.Column("attempts", sa.JSON(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("finished_at", MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    is_left = sa.text("state IN ('waiting', 'sending')")
    op.create_index(
        "errand_open",
        "errand",
        ["connection_id", "remote_id", "kind"],
        unique=True,
        sqlite_where=is_left,
        postgresql_where=is_left,
    )
    waiting = sa.text("state = 'waiting'")
    op.create_index(
        "errand_due",
        "errand",
        ["connection_id", "due_at"],
        sqlite_where=waiting,
        postgresql_where=waiting,
    )
    op.create_index("errand_contact", "errand", ["contact_id", "id"])
    op.create_index(op.f("ix_errand_finished_at"), "errand", ["finished_at"])
    op.create_table(
        "audience",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("conditions", sa.JSON(), nullable=False),
        sa.Column("connection_id", BIG, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )


def _add_columns() -> None:
    for column in (
        sa.Column("differs", sa.Integer(), server_default=sa.text("0")),
        sa.Column("pulled", sa.String(), server_default=sa.text("''")),
    ):
        column.nullable = False
        op.add_column("remote_contact", column)
    op.add_column("remote_contact", sa.Column("written", sa.JSON(), nullable=True))
    for name in ("created_at", "first_seen_at", "fetched_at"):
        op.add_column("remote_contact", sa.Column(name, MOMENT, nullable=True))
    differs = sa.text("differs <> 0 OR alias")
    op.create_index(
        "remote_contact_differs",
        "remote_contact",
        ["connection_id", "remote_id"],
        sqlite_where=differs,
        postgresql_where=differs,
    )
