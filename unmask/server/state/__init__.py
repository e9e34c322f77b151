"""What outlives a process, and is shared by those that serve together: the database, and who lives.
No HTTP in here."""
