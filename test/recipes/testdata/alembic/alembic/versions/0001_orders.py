from alembic import op
import sqlalchemy

revision = "0001"
down_revision = None


def upgrade():
    op.create_table("orders", sqlalchemy.Column("id", sqlalchemy.BigInteger, primary_key=True),
                    sqlalchemy.Column("customer", sqlalchemy.Text, nullable=False))


def downgrade():
    op.drop_table("orders")
