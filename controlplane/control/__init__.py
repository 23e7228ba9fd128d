"""The gRPC side towards sidecars: who calls, what they say, the stream of snapshots, the servers and their identity."""
