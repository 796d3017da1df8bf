"""The first tables: searches, rounds and votes as events, accounts and sign-ins."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make them."""
    op.create_table(
        "searches",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(60), nullable=False, unique=True),
        sa.Column("owner", sa.String(60), nullable=False),
        sa.Column("made_at", MOMENT, nullable=False),
        sa.Column("survey", sa.String(200), nullable=False),
        sa.Column("catalogue", sa.String(200), nullable=False),
        sa.Column("dataset_digest", sa.String(64), nullable=False),
        sa.Column("model", sa.String(200), nullable=False),
        sa.Column("model_version", sa.String(40), nullable=False),
        sa.Column("seed", sa.Integer, nullable=False),
    )
    op.create_table(
        "rounds",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("search_id", sa.Integer, sa.ForeignKey("searches.id"), nullable=False),
        sa.Column("person", sa.String(60), nullable=False),
        sa.Column("made_at", MOMENT, nullable=False),
        sa.Column("kind", sa.String(10), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("learner", sa.String(64)),
        sa.Column("left", sa.Float),
        sa.Column("left_low", sa.Float),
        sa.Column("left_high", sa.Float),
        sa.UniqueConstraint("search_id", "person", "kind", "number"),
    )
    op.create_table(
        "shown",
        sa.Column("round_id", sa.Integer, sa.ForeignKey("rounds.id"), primary_key=True),
        sa.Column("place", sa.Integer, primary_key=True),
        sa.Column("row", sa.Integer, nullable=False),
        sa.Column("object_id", sa.String(400), nullable=False),
        sa.Column("stamp_digest", sa.String(32), nullable=False),
        sa.Column("reason", sa.String(10), nullable=False),
        sa.Column("probability", sa.Float),
    )
    op.create_table(
        "votes",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("search_id", sa.Integer, sa.ForeignKey("searches.id"), nullable=False, index=True),
        sa.Column("round_id", sa.Integer, sa.ForeignKey("rounds.id")),
        sa.Column("person", sa.String(60), nullable=False),
        sa.Column("made_at", MOMENT, nullable=False),
        sa.Column("kind", sa.String(10), nullable=False),
        sa.Column("row", sa.Integer, nullable=False),
        sa.Column("object_id", sa.String(400), nullable=False),
        sa.Column("stamp_digest", sa.String(32), nullable=False),
        sa.Column("answer", sa.String(10)),
        sa.Column("undoes", sa.Integer, sa.ForeignKey("votes.id"), unique=True),
        sa.Column("model", sa.String(200), nullable=False),
        sa.Column("model_version", sa.String(40), nullable=False),
        sa.Column("request_key", sa.String(64), nullable=False),
        sa.UniqueConstraint("person", "request_key"),
    )
    picture = [sa.Column("picture", sa.LargeBinary, nullable=False), sa.Column("digest", sa.String(64), nullable=False)]
    run = [sa.Column("flow", sa.String(60), nullable=False), sa.Column("flow_run_id", sa.String(64), nullable=False)]
    for table, own in (("uploads", picture), ("started_runs", run)):
        op.create_table(
            table,
            sa.Column("id", sa.Integer, primary_key=True),
            sa.Column("search_id", sa.Integer, sa.ForeignKey("searches.id"), nullable=False, index=True),
            sa.Column("person", sa.String(60), nullable=False),
            sa.Column("made_at", MOMENT, nullable=False),
            *own,
        )
    op.create_table(
        "accounts",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(60), nullable=False, unique=True),
        sa.Column("role", sa.String(10), nullable=False),
        sa.Column("password_hash", sa.String(200), nullable=False),
        sa.Column("made_at", MOMENT, nullable=False),
        sa.Column("ended_at", MOMENT),
    )
    op.create_table(
        "sign_ins",
        sa.Column("token_hash", sa.String(64), primary_key=True),
        sa.Column("account_id", sa.Integer, sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("made_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.Column("ended_at", MOMENT),
    )
    op.create_table(
        "secrets",
        sa.Column("name", sa.String(20), primary_key=True),
        sa.Column("value", sa.String(64), nullable=False),
    )


def downgrade() -> None:
    """Take them away."""
    tables = ("secrets", "sign_ins", "accounts", "started_runs", "uploads", "votes", "shown", "rounds", "searches")
    for table in tables:
        op.drop_table(table)
