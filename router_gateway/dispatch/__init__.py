"""A chosen endpoint to an answer: HTTP, translation, fallback, and replayed endpoints."""
