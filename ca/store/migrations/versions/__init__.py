"""One file a migration. A released one is never changed; the next is added."""
