"""Consumer groups without sockets: the state machine, committed offsets, assignors, and the coordinator of a store."""
