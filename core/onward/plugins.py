"""Finding and loading plugins; one that fails stops nobody."""

from __future__ import annotations

import importlib.util
import inspect
import logging
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

import pluggy

from onward import hookspecs
from onward.errors import PluginError
from onward.faults import draft_fault, integration_fault, load_fault
from onward.integrations import Integration

log = logging.getLogger("onward.plugins")

GROUP = "onward"


# What the modules of drop-ins are called.
DROPPED_IN = "onward_dropin_"


@dataclass(frozen=True, slots=True)
class Loaded:
    """One plugin, loaded or not.

    Args:
        source: distribution, or path of a drop-in.
        integrations: keys of what it registered.
        problem: "" or why it, or one of its integrations, is not there.
    """

    name: str
    source: str
    integrations: tuple[str, ...] = ()
    problem: str = ""


@dataclass(slots=True)
class Plugins:
    """What there is: integrations by key, and every plugin with its fate."""

    manager: pluggy.PluginManager
    integrations: dict[str, type[Integration]] = field(
        default_factory=dict[str, type[Integration]]
    )
    loaded: list[Loaded] = field(default_factory=list[Loaded])

    def integration(self, key: str) -> type[Integration]:
        """Return an integration's class.

        Raises:
            PluginError: none is registered under this key.
        """
        try:
            return self.integrations[key]
        except KeyError:
            known = ", ".join(sorted(self.integrations)) or "none"
            raise PluginError(
                f'there is no integration "{key}"; known: {known}; '
                "`onward plugins` says what was loaded and why not"
            ) from None

    def before_push(self, draft: hookspecs.Draft) -> None:
        """Let every plugin see a draft, in pluggy's order: loaded last, called first.

        Raises:
            PluginError: naming the plugin whose hook failed.
        """
        for implementation in reversed(self.manager.hook.before_push.get_hookimpls()):
            name = implementation.plugin_name
            try:
                # As pluggy does: an implementation takes the arguments it names.
                implementation.function(*[draft for _ in implementation.argnames])
            except Exception as error:  # foreign code
                raise PluginError(f"{name}: before_push failed: {error!r}") from error
            problem = draft_fault(draft)
            if problem:
                raise PluginError(f"{name}: before_push left {problem}")

    @property
    def has_before_push(self) -> bool:
        """Tell whether any plugin wants to see drafts."""
        return bool(self.manager.hook.before_push.get_hookimpls())


def new_manager() -> pluggy.PluginManager:
    """Return an empty manager that knows the hooks."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    return manager


def load_plugins(
    *,
    folder: Path | None = None,
    disabled: Iterable[str] = (),
    safe_mode: bool = False,
) -> Plugins:
    """Load installed plugins, then what was dropped into `folder`.

    Args:
        folder: `plugins/` beside `onward.toml`: single files and packages; names
            starting with `_` or `.` are never loaded.
        disabled: names not to load.
        safe_mode: load none, to find out whether a plugin is at fault.
    """
    plugins = Plugins(new_manager())
    if safe_mode:
        return plugins
    skip = set(disabled)
    for point in _installed(tuple(sys.path)):
        source = point.dist.name if point.dist else point.value
        if point.name in skip:
            plugins.loaded.append(Loaded(point.name, source, problem="disabled"))
            continue
        try:
            module = point.load()
        except (Exception, SystemExit) as error:  # foreign code
            _refuse(plugins, point.name, source, error)
            continue
        add_plugin(plugins, point.name, source, module)
    if folder is not None and folder.is_dir():
        for path in sorted(folder.iterdir()):
            _drop_in(plugins, path, skip)
    return plugins


@lru_cache(maxsize=8)
def _installed(path: tuple[str, ...]) -> list[EntryPoint]:
    """Return the entry points of a module path, read once a process: 10 ms a time.

    What is installed later needs a new process anyway, as all of Python does.
    """
    return sorted(entry_points(group=GROUP), key=lambda point: point.name)


def add_plugin(plugins: Plugins, name: str, source: str, module: object) -> None:
    """Register a loaded plugin; its problems are kept, not raised."""
    if plugins.manager.has_plugin(name):
        plugins.loaded.append(
            Loaded(name, source, problem=f'the name "{name}" is already taken')
        )
        return
    try:
        plugins.manager.register(module, name)
        plugins.manager.check_pending()
        _refuse_wrappers(plugins, module)
        offered = list(_offered(plugins, module))
    except Exception as error:  # foreign code
        if plugins.manager.has_plugin(name):
            plugins.manager.unregister(name=name)
        _refuse(plugins, name, source, error)
        return
    taken: list[str] = []
    problems: list[str] = []
    for integration in offered:
        problem = _problem_of(plugins, integration)
        if problem:
            problems.append(problem)
            continue
        plugins.integrations[integration.key] = integration
        taken.append(integration.key)
    plugins.loaded.append(Loaded(name, source, tuple(taken), "; ".join(problems)))


def _refuse_wrappers(plugins: Plugins, module: object) -> None:
    """Refuse hooks around other hooks: ours are called one by one.

    Raises:
        PluginError: naming the hook.
    """
    for caller in plugins.manager.get_hookcallers(module) or ():
        for implementation in caller.get_hookimpls():
            if implementation.plugin is module and (
                implementation.wrapper or implementation.hookwrapper
            ):
                raise PluginError(f"{caller.name} must be a plain function, no wrapper")


def _offered(plugins: Plugins, module: object) -> Iterable[type[Integration]]:
    """Return what the hook announces, else the classes a module defines."""
    found: list[type[Integration]] = []
    own = [
        implementation
        for implementation in plugins.manager.hook.register_integrations.get_hookimpls()
        if implementation.plugin is module
    ]
    for implementation in own:
        implementation.function(found.append)
    if not own and isinstance(module, ModuleType):
        found += [
            value
            for value in vars(module).values()
            if inspect.isclass(value)
            and issubclass(value, Integration)
            and value.__module__ == module.__name__
            and value.key
        ]
    return found


def _problem_of(plugins: Plugins, integration: type[Integration]) -> str:
    """Say why an integration cannot be taken, "" when it can."""
    if integration.key in plugins.integrations:
        other = plugins.integrations[integration.key].__module__
        for one in plugins.loaded:
            if integration.key in one.integrations and other.startswith(DROPPED_IN):
                # As people know it: `plugins/acme.py`.
                other = "/".join(Path(one.source).parts[-2:])
        return f'the key "{integration.key}" is already taken by {other}'
    return integration_fault(integration)


def _refuse(plugins: Plugins, name: str, source: str, error: BaseException) -> None:
    problem = load_fault(error, source)
    log.warning("the plugin %s was not loaded: %s", name, problem)
    plugins.loaded.append(Loaded(name, source, problem=problem))


def _drop_in(plugins: Plugins, path: Path, disabled: set[str]) -> None:
    name = path.stem
    if path.name.startswith(("_", ".")):
        return
    if path.is_dir():
        package = _package_in(path)
        if package is None:
            plugins.loaded.append(
                Loaded(path.name, str(path), problem="no folder with an __init__.py")
            )
            return
        file, roots = package / "__init__.py", [str(package)]
        name = path.name
    elif path.suffix == ".py":
        file, roots = path, None
    else:
        return
    if name in disabled:
        plugins.loaded.append(Loaded(name, str(path), problem="disabled"))
        return
    installed = plugins.manager.get_plugin(name)
    if getattr(installed, "__file__", None) == str(file):
        return  # this very folder is installed already, as in a checkout
    spec = importlib.util.spec_from_file_location(
        f"{DROPPED_IN}{name}", file, submodule_search_locations=roots
    )
    if spec is None or spec.loader is None:
        plugins.loaded.append(Loaded(name, str(path), problem="not a Python file"))
        return
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # foreign code
        for loaded in [name for name in sys.modules if is_part_of(name, spec.name)]:
            del sys.modules[loaded]
        _refuse(plugins, name, str(path), error)
        return
    add_plugin(plugins, name, str(path), module)


def is_part_of(module: str, package: str) -> bool:
    """Tell whether a module is a package or lies in it."""
    return module == package or module.startswith(f"{package}.")


def _package_in(folder: Path) -> Path | None:
    """Return the package of a dropped folder: itself, or the one inside."""
    if (folder / "__init__.py").is_file():
        return folder
    inside = [
        path.parent
        for path in sorted(folder.glob("*/__init__.py"))
        if not path.parent.name.startswith(("_", "."))
    ]
    return inside[0] if inside else None
