"""What things can be said in: proof systems and graphs; no language model inside."""
