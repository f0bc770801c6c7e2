"""For tests, yours and ours: an Onward in memory, a clock, a fake over HTTP."""

from onward.testing.app import Clock, FakeService, TestApp, app
from onward.testing.server import Server, serve

__all__ = ["Clock", "FakeService", "Server", "TestApp", "app", "serve"]
