"""How a policy comes into service: draft, shadow, canary, live, retired; judged while it serves, taken back at once."""
