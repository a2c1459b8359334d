"""Results: the document's schema, statistics, the record that is written as a sweep goes on, tables."""
