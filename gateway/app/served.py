"""Which templates a configuration serves, for whom, and over lines of which class."""

from collections.abc import Mapping

from gateway.core.template import LineClass, Template
from gateway.settings import PoolSettings, Settings, parts

# A template, the tenant whose lines it makes (empty = everybody's), and the bounds of its pool.
Served = tuple[Template, str, PoolSettings]


def by_class(settings: Settings, templates: Mapping[str, Template]) -> dict[LineClass, dict[str, Served]]:
    """Sort the templates, and their tenants' own, by what is fixed when a line is dialled."""
    found: dict[LineClass, dict[str, Served]] = {}
    for tenant, template in parts.by_tenant(settings, templates.values()):
        key = f"{template.name}\0{tenant}" if tenant else template.name
        bounds = settings.pools.get(template.name, PoolSettings())
        found.setdefault(template.line_class, {})[key] = (template, tenant, bounds)
    return found
