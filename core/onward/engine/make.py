"""The engine that `onward.toml` names."""

from __future__ import annotations

from onward.config import Config
from onward.database import Database
from onward.engine.embedded import EmbeddedEngine
from onward.engine.port import Engine
from onward.errors import ConfigError
from onward.runtime import Runtime


def make_engine(runtime: Runtime) -> Engine:
    """Return the engine of the configuration, not started.

    Raises:
        ConfigError: it cannot run here.
    """
    if runtime.config.engine == "embedded":
        return EmbeddedEngine(runtime)
    _check_cluster(runtime.database)
    from onward.engine.cluster import ClusterEngine

    return ClusterEngine(runtime)


def upgrade_engine(config: Config, database: Database) -> bool:
    """Make or migrate the tables the engine has of its own; tell whether it has any.

    Raises:
        ConfigError: the engine cannot run here.
    """
    if config.engine == "embedded":
        return False
    _check_cluster(database)
    from onward.engine.transact import migrate

    migrate(database)
    return True


def _check_cluster(database: Database) -> None:
    if database.is_sqlite:
        raise ConfigError(
            'engine = "cluster" needs PostgreSQL, and database_url leads to SQLite; '
            'set database_url to a PostgreSQL database, or engine = "embedded"'
        )
    try:
        import dbos  # noqa: F401 # pyright: ignore[reportUnusedImport]
    except ModuleNotFoundError:
        raise ConfigError(
            'engine = "cluster" needs the package dbos, which is not installed: '
            "`pip install onward[cluster]`"
        ) from None
