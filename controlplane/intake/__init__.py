"""From files to the configuration in force: read, judged as a whole, refused or applied."""
