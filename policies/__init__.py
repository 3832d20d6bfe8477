"""The built-in routing policies. Nothing is imported until a policy is named."""
