"""The backend `sumcheck`: whole units by sumchecks, lookups and one Reed-Solomon commitment."""
