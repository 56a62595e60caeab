"""Shapes of data: `wire` (pydantic, HTTP and read models), `tables` (SQLModel, the schema)."""
