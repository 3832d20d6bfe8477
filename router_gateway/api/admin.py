"""/admin/api: what operators and the dashboard read and change. Every route needs an admin key; GET takes a viewer's.

To add a page: write its handlers with `admin_only` in a module of their own, and list its `ROUTES` here.
"""

from __future__ import annotations

from router_gateway.api import (
    admin_access,
    admin_again,
    admin_audit,
    admin_budgets,
    admin_endpoints,
    admin_export,
    admin_judges,
    admin_ledger,
    admin_lifecycle,
    admin_onboarding,
    admin_overview,
    admin_playground,
    admin_policies,
    admin_requests,
    admin_settings,
    admin_trail,
)

PREFIX = "/admin/api"

ROUTES = (
    *admin_endpoints.ROUTES,
    *admin_onboarding.ROUTES,
    *admin_policies.ROUTES,
    *admin_judges.ROUTES,
    *admin_ledger.ROUTES,
    *admin_lifecycle.ROUTES,
    *admin_audit.ROUTES,
    *admin_overview.ROUTES,
    *admin_requests.ROUTES,
    *admin_again.ROUTES,
    *admin_playground.ROUTES,
    *admin_access.ROUTES,
    *admin_settings.ROUTES,
    *admin_trail.ROUTES,
    *admin_budgets.ROUTES,
    *admin_export.ROUTES,
)
"""(method, path under PREFIX, handler)."""
