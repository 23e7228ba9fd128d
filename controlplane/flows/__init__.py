"""What sidecars judged, kept for a time: read from their reports, stored, asked for by operators.

``reading`` checks reports, ``keeping`` takes them off the control stream's hands, ``store`` is the database, ``query``
what can be asked of it.
"""
