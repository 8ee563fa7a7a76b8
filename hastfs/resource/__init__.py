"""The engines: a component, its metadata and map, and replication in both roles."""
