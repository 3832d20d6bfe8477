"""What the command line's verbs do: one module a verb, or a family of them. cli.py names them; nothing else does."""
