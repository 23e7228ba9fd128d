"""The database's history, one step a file; run by ``ca.store.database`` when a database is opened."""
