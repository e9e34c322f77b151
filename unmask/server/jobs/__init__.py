"""Jobs: requests that outlive their connections, and the files they leave. No HTTP in here."""
