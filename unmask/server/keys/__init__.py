"""Who may ask, and how much: keys, senders and their limits. No HTTP in here."""
