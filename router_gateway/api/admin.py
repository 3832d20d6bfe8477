"""/admin/api: what operators and the dashboard read and change. Every route needs an admin key.

To add a page: write its handlers with `admin_only` in a module of their own, and list its `ROUTES` here.
"""

from __future__ import annotations

from router_gateway.api import (
    admin_audit,
    admin_endpoints,
    admin_judges,
    admin_ledger,
    admin_lifecycle,
    admin_overview,
    admin_playground,
    admin_policies,
    admin_pool,
)

PREFIX = "/admin/api"

ROUTES = (
    *admin_endpoints.ROUTES,
    *admin_pool.ROUTES,
    *admin_policies.ROUTES,
    *admin_judges.ROUTES,
    *admin_ledger.ROUTES,
    *admin_lifecycle.ROUTES,
    *admin_audit.ROUTES,
    *admin_overview.ROUTES,
    *admin_playground.ROUTES,
)
"""(method, path under PREFIX, handler)."""
