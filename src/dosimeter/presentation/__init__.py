"""What the sections of a report share: their contract, views of tables, numbers in words, one look for figures."""
