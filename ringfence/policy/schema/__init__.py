"""What documents may say, as one table: the source of the JSON Schema and of the reference page. Pure.

``shapes`` says what a value can be, ``texts``, ``parts`` and ``kinds`` are the table, ``json_schema`` and ``reference``
write it out. Patterns, choices and limits are those that the readers take; a test holds the table's fields against what
the readers ask for, and each example of the table is read.
"""
