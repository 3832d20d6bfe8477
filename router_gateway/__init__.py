"""Router Gateway: a drop-in proxy in front of LLM APIs that learns which model should answer.

Re-exported here is what the author of a policy needs, and nothing else.
"""

from router_gateway.core.errors import NotFitted, PolicyError, SnapshotMismatch
from router_gateway.core.experience import Experience
from router_gateway.core.protocols import Policy
from router_gateway.core.types import Floats, Queries, Scores

__version__ = "0.1.0"

__all__ = [
    "Experience",
    "Floats",
    "NotFitted",
    "Policy",
    "PolicyError",
    "Queries",
    "Scores",
    "SnapshotMismatch",
    "__version__",
]
