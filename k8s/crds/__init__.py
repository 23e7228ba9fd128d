"""Custom resource definitions: one a kind of document, written from the table that the JSON Schema is written from.

``structure`` turns a shape into a structural schema, ``conditions`` into the rules that a schema cannot say,
``definition`` puts a kind's resource together, ``generate`` writes the files. All but the last are pure.
"""
