"""Everything the parts of one running Onward share, built by one function."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import httpx

from onward.clock import utcnow
from onward.config import Config
from onward.database import Database
from onward.errors import ConfigError
from onward.instrument import Instrument
from onward.limiter import Limiter
from onward.plugins import Plugins
from onward.tracing import Spans
from onward.vault import Vault

KEY_FILE = "onward.key"


@dataclass(slots=True)
class Runtime:
    """What is configured, where it is kept and how the world is reached.

    Args:
        transport: replaces the network in tests.
        sleep: waits that many seconds; tests move their clock instead.
        sender: what signals are sent from.
        simulated: the clock is a test's and has nothing to do with any server's.
        on_work: the engine of this process, None while none runs here.
        ending: set while the worker of this process is stopped.
        unfit: why this process must not send now, "" when it may.
        instrument: listens to what is done; see `onward.instrument`.
    """

    config: Config
    database: Database
    plugins: Plugins
    env: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    clock: Callable[[], datetime] = utcnow
    sleep: Callable[[float], None] = time.sleep
    transport: httpx.BaseTransport | None = None
    sender: object = None
    simulated: bool = False
    on_work: Callable[[int], None] | None = None
    unfit: str = ""
    ending: threading.Event = field(default_factory=threading.Event)
    instrument: Instrument = field(default_factory=Spans)
    limiter: Limiter = field(init=False)
    opened: dict[int, object] = field(init=False, default_factory=dict[int, object])
    lock: threading.RLock = field(init=False, default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self.limiter = Limiter(self.database, self.config.timezone)

    @property
    def key_file(self) -> Path | None:
        """Where the key of stored secrets lies: beside the database."""
        if self.database.path is not None:
            return self.database.path.parent / KEY_FILE
        if self.config.path is not None:
            return self.config.path.parent / KEY_FILE
        return None

    def vault(self) -> Vault:
        """Return the keeper of stored secrets.

        Raises:
            ConfigError: there is no key.
        """
        return Vault.open(self.env, self.key_file)

    def field_map_file(self, name: str) -> Path:
        """Return where a field map lies: named path, beside the config, shipped.

        Raises:
            ConfigError: it is in none of these places.
        """
        given = Path(name)
        if given.suffix == ".toml":
            path = given.expanduser()
            if not path.is_absolute() and self.config.path is not None:
                path = self.config.path.parent / path
            if path.is_file():
                return path
            raise ConfigError(f"the field map {path} is not there")
        places = [shipped_field_maps()]
        if self.config.path is not None:
            places.insert(0, self.config.path.parent / "field_maps")
        for place in places:
            path = place / f"{name}.toml"
            if path.is_file():
                return path
        raise ConfigError(
            f'there is no field map "{name}"; looked in '
            + " and ".join(str(place) for place in places)
        )


def shipped_field_maps() -> Path:
    """Return the folder of the maps that came with Onward.

    In a wheel it lies in the package, in a checkout beside `core/`.
    """
    packaged = Path(__file__).parent / "field_maps"
    if packaged.is_dir():
        return packaged
    return Path(__file__).parents[2] / "field_maps"
