"""The migrations of the database schema by Alembic; they are the same for SQLite and PostgreSQL."""
