"""What may follow the tasks of the workloads: one module a kind, each a generator of text for a random source."""
