"""The pages for people: a process of its own that knows the gateway by its admin API only."""
