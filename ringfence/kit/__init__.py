"""Runtime parts without domain words: clock, backoff, log, settings, watch, tasks."""
