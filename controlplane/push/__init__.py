"""What each sidecar is told and what it said back: snapshots, revisions, mailboxes, acknowledgements."""
