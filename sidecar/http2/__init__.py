"""HTTP/2 frames (RFC 9113) as bytes: constants, encoders and the guards that bound a hostile peer. Sans-IO."""
