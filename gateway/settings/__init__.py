"""The only reader of the environment and of the config file; checks all of it before anything starts.

Precedence: environment (`TRUNKLINE_GRPC__ADDRESS`), then the file, then the defaults. An unknown key
or variable refuses the start, with its path.
"""

from gateway.settings.changes import needs_restart
from gateway.settings.load import SettingsError, environment_key, load
from gateway.settings.sections import CallerSettings, PoolSettings, SealingKeySettings, is_loopback
from gateway.settings.whole import Settings

__all__ = [
    "CallerSettings",
    "PoolSettings",
    "SealingKeySettings",
    "Settings",
    "SettingsError",
    "environment_key",
    "is_loopback",
    "load",
    "needs_restart",
]
