"""The tables as they are now. Whoever changes one adds a step to ``migrations/versions``."""

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()

jobs = Table(
    "jobs",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("owner", String(255), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("form", Text, nullable=False),
    Column("status", String(16), nullable=False),
    Column("progress", Integer, nullable=False),
    Column("created", Float, nullable=False),
    Column("due", Float, nullable=False),
    Column("started", Float),
    Column("ended", Float),
    Column("expires", Float),
    Column("claimed_by", String(64)),
    Column("attempts", Integer, nullable=False),
    Column("fault", Text),
    Column("answer", Text),
    Column("files", Text, nullable=False),
    Column("secret", String(64), nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("key", String(255)),
    Column("digest", String(64), nullable=False),
    UniqueConstraint("owner", "key"),
    Index("jobs_by_status", "status", "number"),
    Index("jobs_by_owner", "owner", "number"),
    sqlite_autoincrement=True,  # a number that was removed is never given again
)
webhooks = Table(
    "webhooks",
    metadata,
    Column("owner", String(255), primary_key=True),
    Column("url", Text, nullable=False),
    Column("secret", String(128), nullable=False),
    Column("created", Float, nullable=False),
)
deliveries = Table(
    "deliveries",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("owner", String(255), nullable=False),
    Column("body", Text, nullable=False),
    Column("due", Float, nullable=False, index=True),
    Column("attempts", Integer, nullable=False),
)
runners = Table(  # that live, where one cannot see another's process
    "runners",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("seen", Float, nullable=False),  # by the clock of the database
)
keys = Table(  # revoked ones stay: where there was a key, one is needed for ever
    "keys",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("scopes", Text, nullable=False),
    Column("limits", Text, nullable=False),
    Column("created", String(32), nullable=False),
    Column("revoked", Float),
)
windows = Table(  # what was used of limits
    "windows",
    metadata,
    Column("key", String(400), primary_key=True),
    Column("used", BigInteger, nullable=False),
    Column("expires", Float, nullable=False, index=True),
)
places = Table(  # drawings that are waited for
    "places",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("owner", String(255), nullable=False, index=True),
    Column("runner", String(64), nullable=False, index=True),
)
